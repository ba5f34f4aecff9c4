"""metrics FILE: fails unless FILE is OpenMetrics text, and also the older text format of Prometheus, with its types only."""

import sys

from prometheus_client import openmetrics, parser
import prometheus_client.openmetrics.parser

text = open(sys.argv[1]).read()
families = list(openmetrics.parser.text_string_to_metric_families(text))
assert {family.type for family in families} <= {"counter", "gauge"}, families
for family in families:
    assert family.unit == ("seconds" if family.name.endswith("_seconds") else ""), family
    assert family.documentation, family

samples = {(sample.name, *sample.labels.items()): sample.value for family in families for sample in family.samples}
older = parser.text_string_to_metric_families(text)
assert samples == {(it.name, *it.labels.items()): it.value for family in older for it in family.samples}
