"""`holdfast blast`: a LAC with many subscribers as a load generator against any L2TPv2 LNS.

The hot path is raw templates and one small object per call, no protocol machinery of the product: what
measures must not share the faults of what it measures, and must be faster. Control connections use
`holdfast.wire`.
"""

from holdfast.lab.blast.main import main

__all__ = ["main"]
