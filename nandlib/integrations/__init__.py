"""Added normalities inside other people's code: anomalib's Engine, scikit-learn's estimators, ONNX.

Each module imports its library when it is imported itself, so that nobody needs a library that is not used.
"""
