"""The stages of the pipeline: the only part of the library that reads and writes a study's files."""
