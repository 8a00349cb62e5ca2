"""A page shown at an address of this machine: one file, nothing else of the folder."""
import sys
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common.utils import UsageError


class _Page(BaseHTTPRequestHandler):
    """Gives the server's page at `/`, and nothing anywhere else."""

    def do_HEAD(self):
        if self.path.partition("?")[0] != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return False
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        return True

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(self.server.content)

    def log_message(self, *_):
        """No line for each request: the terminal belongs to the user."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # there it would share a port that is taken
    content = b""

    def handle_error(self, request, client_address):
        """A browser that goes away while it loads is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def server(host, port):
    """A server that has its address, to be given a page by `serve_page`. Raises UsageError where the port is taken."""
    try:
        return _Server((host, port), _Page)
    except OSError as error:
        raise UsageError(f"--port {port} on --host {host}: cannot be used ({error.strerror or error}); choose another, "
                         "or --port 0 for a free one") from None


def serve_page(served, path, opens=False):
    """Show the page at `path` until Ctrl-C, which is the way to end it."""
    served.content = path.read_bytes()
    host, port = served.server_address[:2]
    address = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}/"
    print(f"shown at {address} until Ctrl-C", flush=True)
    if opens:
        open_browser(address)
    try:
        served.serve_forever()
    except KeyboardInterrupt:
        print()


def open_browser(address):
    """Show an address in the user's browser, or say that there is none."""
    if not webbrowser.open(address):
        print(f"no browser found; open {address} yourself")
