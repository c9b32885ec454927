"""Vectors in Chroma: in this process, on a server, or on this disk by opt-in. The only folder that imports `chromadb`."""

from aico.data.chroma.segments import COLLECTION, Near, Note, Segment, Segments

__all__ = ["COLLECTION", "Near", "Note", "Segment", "Segments"]
