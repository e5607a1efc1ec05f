"""The HTTP service: `Service` holds detectors and limits, `make_app` gives it endpoints, `Server` runs it.

This package needs the extra "serve". It is imported by `blemish serve` alone.
"""
