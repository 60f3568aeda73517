"""What tests of the command line ask of its output."""

import json


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def assert_one_error(result, *parts):
    status, out, err = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if "error:" in line]
    for part in parts:
        assert part in line
