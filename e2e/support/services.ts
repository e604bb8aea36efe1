/** Small services that run inside projects, with nothing but the base image's Python. */

/** Echoes WebSocket text frames at any path; answers plain GET with `hello`. 127.0.0.1 only. */
export const echoService = `#!/usr/bin/env python3
import base64, hashlib, http.server, os, socketserver, struct

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.headers.get('Upgrade', '').lower() == 'websocket':
            return self.websocket()
        body = ('hello from ' + self.path).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('X-Seen', ','.join(sorted(k.lower() for k in self.headers)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        n = int(self.headers['Content-Length'])
        line = self.rfile.read(n)
        with open(os.path.expanduser('~/promised.log'), 'ab') as f:
            f.write(line + b'\\n')
            f.flush()
            os.fsync(f.fileno())
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def websocket(self):
        key = self.headers['Sec-WebSocket-Key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header('Upgrade', 'websocket')
        self.send_header('Connection', 'Upgrade')
        self.send_header('Sec-WebSocket-Accept', accept)
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2: break
            op, n = head[0] & 15, head[1] & 127
            if n == 126: n = struct.unpack('>H', self.rfile.read(2))[0]
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(n)))
            if op == 8: break
            self.wfile.write(bytes([0x81, len(data)]) + data)
            self.wfile.flush()
        self.close_connection = True
    def log_message(self, *args): pass

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server(('127.0.0.1', 8081), Handler).serve_forever()
`;

export const echoPort = 8081;

/** Shell command that installs a service so that it runs at every start of the project. */
export function installService(name: string): string {
  const folder = '$HOME/.config/rookery/services';
  return `mkdir -p ${folder} && cat > ${folder}/${name} && chmod +x ${folder}/${name}`;
}
