"""The explorer: any text added as normal, and what it does seen at once.

`gallery`: images whose features are computed once; `answer`: what texts do to them; `page`: what is shown; `accept`: images
accepted with a click; `widget`: all controls.
"""
