"""`vla serve`: a trained policy behind a websocket, in openpi's protocol or the public evaluation harness's."""

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from vla.policy import Policy
    from vla.serve.conversation import Conversation
    from vla.serve.server import PolicyServer, ServerConfig

TOKEN_VARIABLE = "VLA_SERVE_TOKEN"
_SIMULATOR_S = 900.0  # the harness's client answers no ping while its simulator loads or resets

_SERVE = f"""examples:
  vla serve runs/demo/finetune/model
  vla serve USER/NAME --device cuda --dtype bfloat16
  vla serve CHECKPOINT --cameras observation/image=base observation/wrist_image=wrist         a LIBERO client
  vla serve CHECKPOINT --cameras observation/exterior_image_1_left=base observation/wrist_image_left=wrist \\
      --state observation/joint_position observation/gripper_position                         a DROID client
  {TOKEN_VARIABLE}=... vla serve CHECKPOINT --host 0.0.0.0                          other machines, with the token

A robot asks with openpi's own client (pip install openpi-client):
  client = WebsocketClientPolicy("localhost", 8000)
  answer = client.infer({{"observation/image": frame, "observation/state": state, "prompt": "fold the cloth"}})
  answer["actions"]                             # float32 [horizon, action_dim], the robot's own units
client.get_server_metadata() says which keys this server reads. http://localhost:8000/healthz and /metrics answer too.

The benchmarks of the public evaluation harness (pip install vla-eval) run against it with --protocol vla-eval:
  vla serve CHECKPOINT --protocol vla-eval                       LIBERO: what its observations hold is known here
  vla serve CHECKPOINT --protocol vla-eval --benchmark simpler-widowx --cameras primary=base             SIMPLER
  vla-eval run --no-docker -c libero.yaml --server-url ws://localhost:8000                          the other side

A camera is found under its own name, as observation/NAME, images/NAME or observation.images.NAME, or where --cameras
says. Only this machine can connect unless --host says otherwise. The token comes from the environment or a file, never
from the command line, which every user of the machine can read. Ctrl-C or SIGTERM answers what is under way first.
docs/serving.md has the rest: messages, real-time chunking, limits, running it behind TLS.
"""


def add_serve_command(commands: Any) -> None:
    """Add `serve` to the commands of `vla`."""
    words = "serve a policy to robots and benchmarks over a websocket, as openpi's server does"
    serve = commands.add_parser(
        "serve",
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=_SERVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `--token x` is not to be taken for --token-file, and x repeated on the screen
    )
    serve.add_argument("checkpoint", help="a run's model folder, or USER/NAME on the Hub")
    _add_model_options(serve.add_argument_group("the policy"))
    _add_key_options(serve.add_argument_group("what requests hold"))
    _add_protocol_options(serve.add_argument_group("the protocol"))
    _add_server_options(serve.add_argument_group("the server"))
    serve.set_defaults(handler=_serve)


def _add_model_options(group: Any) -> None:
    group.add_argument("--device", default="cpu", help="where it runs: cpu, cuda, cuda:1 (default cpu)")
    group.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="default float32")
    group.add_argument("--compiled", action="store_true", help="compile the layers; the first chunk takes minutes")
    group.add_argument("--graphs", action="store_true", help="record and replay chunks as CUDA graphs")
    group.add_argument("--robot", help="whose columns and units, if the policy was trained on several robots")
    group.add_argument("--revision", help="of a policy on the Hub: a tag, branch or commit")


def _add_key_options(group: Any) -> None:
    group.add_argument("--cameras", nargs="+", default=[], metavar="KEY=CAMERA", help="where requests hold a camera")
    group.add_argument("--state", nargs="+", default=[], metavar="KEY", help="keys that together are the state")
    group.add_argument("--optional", nargs="+", default=[], metavar="CAMERA", help="cameras a request may leave out")
    group.add_argument("--ignore", nargs="+", default=[], metavar="KEY", help="keys that clients send for others")
    group.add_argument("--prompt", help="the instruction of requests that have none")


def _add_protocol_options(group: Any) -> None:
    words = "openpi's, which robots speak (default), or the public evaluation harness's"
    group.add_argument("--protocol", choices=["openpi", "vla-eval"], default="openpi", help=words)
    words = "vla-eval: which benchmark, where what the client says is not enough: simpler-widowx, simpler-google"
    group.add_argument("--benchmark", metavar="NAME", help=words)
    words = "vla-eval: actions of each chunk carried out (default: LIBERO 5, SIMPLER 1, else all)"
    group.add_argument("--execute", type=int, metavar="N", help=words)
    words = "vla-eval: another seed, another draw of the noise in every episode (default 0)"
    group.add_argument("--seed", type=int, metavar="N", help=words)


def _add_server_options(group: Any) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    group.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes a free one and prints it")
    group.add_argument("--token-file", type=Path, help=f"file with the token; or set {TOKEN_VARIABLE}")
    group.add_argument("--max-batch", type=int, default=8, help="requests computed together (default 8)")
    group.add_argument("--wait-ms", type=float, default=3.0, help="to wait for others to batch with (default 3)")
    group.add_argument("--max-queue", type=int, default=64, help="requests that may wait (default 64)")
    group.add_argument("--max-clients", type=int, default=32, help="connections (default 32)")
    group.add_argument("--max-message-mib", type=int, default=16, help="size of a request (default 16)")


def _serve(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if overrides:
        raise RecipeError(f"`vla serve` has no --{' --'.join(overrides)}; `vla serve --help` lists its options.")
    cameras = camera_table(options.cameras)
    token = read_token(options.token_file, os.environ)
    _check_protocol(options)
    from vla.policy import Policy  # torch comes with it
    from vla.serve.observations import Keys
    from vla.serve.server import PolicyServer

    config = _config(options, token)
    policy = Policy.from_pretrained(
        options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        robot=options.robot,
        revision=options.revision,
        compiled=options.compiled,
        graphs=options.graphs,
    )
    keys = Keys(cameras, options.state, options.optional, options.ignore, options.prompt)
    conversation = _conversation(options, policy, keys, config)
    _start_log()
    # On a GPU each size of batch has code or a graph of its own, made at its first call.
    first = range(1, config.max_batch + 1) if options.device.startswith("cuda") else [1]
    asyncio.run(_run(PolicyServer(policy, conversation, config), first))
    sys.stdout.write("stopped\n")


def _check_protocol(options: argparse.Namespace) -> None:
    """No option is taken and then not used."""
    harness = options.protocol == "vla-eval"
    only_harness = [name for name in ("benchmark", "execute", "seed") if getattr(options, name) is not None]
    if not harness and only_harness:
        raise RecipeError(f"--{only_harness[0]} is of --protocol vla-eval; openpi's clients decide that themselves.")
    if harness and options.ignore:
        raise RecipeError("--ignore is of --protocol openpi: benchmarks may send what nothing reads.")
    if harness and options.max_queue < options.max_clients:
        raise RecipeError(
            f"--max-queue {options.max_queue} is below --max-clients {options.max_clients}: a benchmark that is told "
            "`busy` counts a failed episode. Raise --max-queue."
        )


def _config(options: argparse.Namespace, token: str | None) -> "ServerConfig":
    from vla.serve.server import ServerConfig

    return ServerConfig(
        host=options.host,
        port=options.port,
        token=token,
        max_batch=options.max_batch,
        wait_ms=options.wait_ms,
        max_queue=options.max_queue,
        max_clients=options.max_clients,
        max_message_bytes=options.max_message_mib * 2**20,
        keepalive_s=_SIMULATOR_S if options.protocol == "vla-eval" else ServerConfig.keepalive_s,
    )


def _conversation(options: argparse.Namespace, policy: "Policy", keys: Any, config: "ServerConfig") -> "Conversation":
    from vla.policy import model_folder
    from vla.serve.observations import RequestReader, Sizes
    from vla.serve.openpi import OpenpiConversation
    from vla.serve.vla_eval import EpisodeRules, VlaEvalConversation
    from vla.train.export import weights_digest

    sizes = Sizes(policy.cameras, policy.state_dim, policy.action_dim, policy.horizon)
    if options.protocol == "openpi":
        digest = weights_digest(model_folder(options.checkpoint, options.revision))
        return OpenpiConversation(RequestReader(sizes, keys), config.max_message_bytes, digest)
    facts = {name: getattr(options, name) for name in ("checkpoint", "revision", "dtype", "device")}
    facts |= {"version": version("vla"), "robot": policy.robot.robot_type if policy.robot else None}
    rules = EpisodeRules(options.execute, options.seed or 0, options.benchmark)
    return VlaEvalConversation(sizes, keys, rules, policy.robot, facts)


def camera_table(pairs: list[str]) -> dict[str, str]:
    """`KEY=CAMERA` words as a table from a request's key to a camera of the policy."""
    table: dict[str, str] = {}
    for pair in pairs:
        key, equals, camera = pair.rpartition("=")
        if not (key and equals and camera):
            raise RecipeError(f"--cameras {pair}: write KEY=CAMERA, for example observation/image=base.")
        if key in table:
            raise RecipeError(f"--cameras {pair}: the key {key} is given twice.")
        table[key] = camera
    return table


def read_token(path: Path | None, environment: Any) -> str | None:
    """The token from a file or the environment; None if there is none."""
    given = environment.get(TOKEN_VARIABLE)
    if path is None:
        token = given
    elif given is not None:
        raise RecipeError(f"the token is in --token-file and in {TOKEN_VARIABLE}; leave one out.")
    elif not path.is_file():
        raise RecipeError(f"--token-file {path}: there is no such file.")
    else:
        token = path.read_text().strip()
    if token is not None and not (token.strip() and token.isascii() and token.isprintable()):
        raise RecipeError("the token is empty or holds characters that no header carries; use letters and digits.")
    return token


def _start_log() -> None:
    """What happens at the server goes to stderr, one line each."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("vla.serve").setLevel(logging.INFO)


async def _run(server: "PolicyServer", batch_sizes: Sequence[int]) -> None:
    await server.warm_up(batch_sizes)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin_to_stop() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):  # a second signal does not wait
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, begin_to_stop)
    await server.run(stop, lambda host, port: _announce(server.config, host, port))


def _announce(config: "ServerConfig", host: str, port: int) -> None:
    address = f"[{host}]" if ":" in host else host
    lock = "with the token only" if config.token else "without a token"
    sys.stdout.write(f"serving on ws://{address}:{port} ({lock}); Ctrl-C stops\n")
    sys.stdout.flush()
    if config.token is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        sys.stderr.write(
            f"warning: whoever reaches {address}:{port} can command this policy. Set {TOKEN_VARIABLE}, "
            "or listen on 127.0.0.1 and let robots in through an SSH tunnel.\n"
        )
