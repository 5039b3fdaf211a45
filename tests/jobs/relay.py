"""A door on another address of this machine to a server that listens on its loopback alone.

The tests' PostgreSQL and Mosquitto let nobody else in; machines in namespaces come from outside.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

_PART_BYTES = 2**16


@contextmanager
def relayed(address: str, port: int) -> Iterator[None]:
    """Pass connections to ``address`` on to the same port of the loopback, for the block."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(lambda reader, writer: _pass_on(reader, writer, port), address, port),
    )
    thread = threading.Thread(target=loop.run_forever, name="relay")
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    port: int,
) -> None:
    with closing(writer), suppress(OSError, asyncio.CancelledError):  # ``_end`` alone cancels
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with closing(back):
            ways = (_copy(reader, back), _copy(there, writer))
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                # When one side has gone there is nobody to pass anything on to.
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(_PART_BYTES):
        writer.write(part)
        await writer.drain()
