"""The headers of image files, one module a format: what decoding would cost, and how many frames there are.

Each `examine(file, most_pixels)` reads headers alone, in bounded time, and raises `UnfitError` for a file that is not
to be decoded. A header that makes no sense is left to the decoder, which knows more ways to be damaged.
"""
