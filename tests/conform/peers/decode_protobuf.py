"""Reads payloads, one in hexadecimal a line, and writes what pysparkplug's protobuf makes of them as JSON lines."""

import json
import sys

from pysparkplug._protobuf import Payload

for line in sys.stdin:
    payload = Payload()
    payload.ParseFromString(bytes.fromhex(line.strip()))
    metrics = []
    for metric in payload.metrics:
        which = metric.WhichOneof("value")
        quality = dict(
            zip(metric.properties.keys, (value.int_value for value in metric.properties.values), strict=True)
        )
        metrics.append(
            {
                "name": metric.name,
                "timestamp": metric.timestamp,
                "value": None if metric.is_null or which is None else getattr(metric, which),
                "field": which,
                "quality": quality.get("Quality"),
            }
        )
    seq = payload.seq if payload.HasField("seq") else None
    print(json.dumps({"timestamp": payload.timestamp, "seq": seq, "metrics": metrics}))
