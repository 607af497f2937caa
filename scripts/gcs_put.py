"""Uploads of Google Cloud Storage's XML API for fake-gcs-server, which has its reads and lists only.

usage: gcs_put.py PORT PORT_OF_FAKE_GCS_SERVER

Listens on 127.0.0.1. `PUT /BUCKET/KEY`, with its `x-goog-if-generation-match`, becomes an upload of the JSON API; all
other requests are passed on as they are.
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

PORT, BEHIND = int(sys.argv[1]), int(sys.argv[2])
BOUNDARY = "between-metadata-and-object"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        method, path = self.command, self.path
        _, bucket, *key = urlsplit(path).path.split("/", 2)
        is_upload = method == "PUT" and key
        if is_upload:
            method = "POST"
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={quote(unquote(key[0]), safe='')}"
            generation = self.headers.get("x-goog-if-generation-match")
            if generation is not None:
                path += f"&ifGenerationMatch={generation}"
            kind = self.headers.get("Content-Type", "application/octet-stream")
            metadata = json.dumps({"name": unquote(key[0]), "contentType": kind})
            parts = [f"Content-Type: application/json\r\n\r\n{metadata}".encode(), f"Content-Type: {kind}\r\n\r\n".encode() + body]
            body = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
            headers = {"Content-Type": f"multipart/related; boundary={BOUNDARY}"}
        headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection("127.0.0.1", BEHIND)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        headers = dict(answer.getheaders())
        if is_upload and answer.status == 200:
            made = json.loads(content)
            headers, content = {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}, b""
        length = headers.pop("Content-Length", None) if method == "HEAD" else str(len(content))
        headers = {name: value for name, value in headers.items() if name not in ("Content-Length", "Transfer-Encoding")}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
