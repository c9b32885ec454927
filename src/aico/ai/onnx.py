"""ONNX Runtime, made to tell nobody anything."""

import os
from typing import Any


def quiet_runtime() -> Any:  # the package has no types
    """The package `onnxruntime`. Whatever loads it, a library that brings it too, asks here first. Raises ImportError.

    From release 1.32 on it reports to its maker from the moment it is imported, on Linux too: what machine and program
    runs it, under a device id that it leaves in the home folder. The variable has to be there before.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where the program around us had imported it already
    return onnxruntime
