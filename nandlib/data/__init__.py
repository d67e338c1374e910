"""Images and what is known of them: manifests, groups, sources, and the drawn data sets."""
