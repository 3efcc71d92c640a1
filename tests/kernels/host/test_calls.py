"""The bytes of a call are those that the library reads."""

import re
from importlib.resources import files

from lossd.kernels.host._calls import CallPlaces, CallSizes


def test_a_call_has_the_fields_of_its_structure_in_their_order() -> None:
    header = (files("lossd.kernels.host") / "structures.hpp").read_text()
    fields = re.sub(r"//.*", "", header.split("struct Call {")[1].split("};")[0])
    names = re.findall(r"(\w+)(?:\[[^\]]*\])?\s*[,;]", fields)

    answers = ["nonfinite_rows", "outside"]
    assert names == [*CallSizes._fields, "inputs", *CallPlaces._fields, "others", *answers]
