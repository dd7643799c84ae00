"""The verb `zoo serve`: models over HTTP."""

from __future__ import annotations

import argparse

from zoo.cli import views
from zoo.core.errors import ZooError

MAX_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb to its parser."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a model folder, a Hub id, or package:NAME")
    parser.add_argument(
        "--index",
        action="append",
        default=[],
        metavar="DIR",
        help="also search this index, which one of the models built; may be given several times",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="the port; 0 lets the system choose (default: 8000)")
    parser.add_argument("--device", help="where the models encode, for example cuda (default: where they open)")
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="fp32, the default, gives a text the same vector in every batch; auto: bf16 on hardware that is fast at it; with "
        "--engine auto, the default is the precision that it chooses",
    )
    views.add_engine_arguments(parser)
    parser.add_argument(
        "--max-tokens", type=int, help="tokens that are encoded together (default: 8192 on a CPU, 32768 on a GPU)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, each with the models (default: 1)")
    parser.add_argument("--no-page", action="store_true", help="serve no page at /, only the API")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="the environment variable that holds the API key (default: no key)"
    )


def serve(arguments: argparse.Namespace) -> int:
    """`zoo serve MODEL…`: serve models over HTTP with OpenAI's API until SIGTERM or Ctrl-C."""
    for option in ("max_tokens", "workers"):
        number = getattr(arguments, option)
        if number is not None and number < 1:
            raise ZooError(f"--{option.replace('_', '-')} {number}: must be 1 or more")
    if not 0 <= arguments.port <= MAX_PORT:
        raise ZooError(f"--port {arguments.port}: must be between 0 and {MAX_PORT}")
    try:
        from zoo.serve import process
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("markdown_it", "starlette", "uvicorn", "prometheus_client"):
            raise
        raise ZooError(
            f'zoo serve needs {error.name}, which is not installed: pip install "embedding-zoo[serve]"'
        ) from None
    from zoo.serve.settings import Settings

    return process.run(
        Settings(
            models=tuple(arguments.models),
            host=arguments.host,
            port=arguments.port,
            device=arguments.device,
            precision=arguments.precision,
            engine=arguments.engine,
            max_loss=arguments.max_loss,
            max_tokens=arguments.max_tokens,
            workers=arguments.workers,
            indexes=tuple(arguments.index),
            api_key_variable=arguments.api_key_env,
            page=not arguments.no_page,
        )
    )
