/** The collector: a process that takes traces over OTLP/HTTP, counts their spans and forgets them. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { answerParent } from "./answer-parent.ts";
import { countSpans } from "./count-spans.ts";

let spans = 0;

const server = createServer((request, response) => {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => {
    spans += countSpans(Buffer.concat(pieces));
    response.writeHead(200, { "content-type": "application/x-protobuf", "content-length": 0 }).end();
  });
});
server.keepAliveTimeout = 0;
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  answerParent({ url: `http://127.0.0.1:${port}` }, { spans: () => spans, stop: () => server.closeAllConnections() });
});
