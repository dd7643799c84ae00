"""Serve models over HTTP with OpenAI's API. `process.run` starts the server, and `app.create_app` makes the ASGI application.

A request passes through these modules: `body` reads it under limits, `requests` checks it, `inputs` turns it into inputs of the
encoder, and `batching` encodes it together with other requests. `responses` writes the answer. `metrics` and `logs` record it.
"""
