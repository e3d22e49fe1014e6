"""What JSON Schema cannot say of requests: a whole number is written without a fraction, `2` and not `2.0`."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """Writes whole numbers as the ingress reads them. Fields of type `float` take both forms."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, list):
        return [map_body(context, item) for item in body]
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    return body
