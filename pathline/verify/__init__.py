"""The laws, as functions: parts in, a figure and its bound out."""
