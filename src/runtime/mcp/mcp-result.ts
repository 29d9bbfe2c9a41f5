/** What an MCP server's tool returns, as an agent's model reads it. */

/** The parts of a result that are looked at; what is of a later version of the protocol is described by its type. */
export type McpResult = {
  content: readonly McpContent[];
  structuredContent?: { [key: string]: unknown } | undefined;
  isError?: boolean | undefined;
};

export type McpContent =
  | { type: "text"; text: string }
  | { type: "image" | "audio"; data: string; mimeType: string }
  | { type: "resource_link"; uri: string; name: string }
  | {
      type: "resource";
      resource: { uri: string; mimeType?: string | undefined } & ({ text: string } | { blob: string });
    };

/**
 * The text of a result. Text stays as it is, structured content is JSON where no text repeats it, and what a model cannot read is
 * described: `[image: image/png, 1200 bytes]`.
 */
export function textOfResult({ content, structuredContent }: McpResult): string {
  const texts = content.flatMap((part) => (part.type === "text" ? [part.text] : []));
  const parts = content.map(textOfPart);
  if (structuredContent) {
    const json = JSON.stringify(structuredContent);
    if (!texts.some((text) => isSame(text, json))) parts.push(json);
  }
  return parts.join("\n\n");
}

function textOfPart(part: McpContent): string {
  switch (part.type) {
    case "text":
      return part.text;
    case "image":
    case "audio":
      return `[${part.type}: ${part.mimeType}, ${bytesOf(part.data)} bytes]`;
    case "resource_link":
      return `[resource: ${part.name}, ${part.uri}]`;
    case "resource": {
      const { resource } = part;
      if ("text" in resource) return `[resource: ${resource.uri}]\n${resource.text}`;
      return `[resource: ${resource.uri}, ${resource.mimeType ?? "of no known type"}, ${bytesOf(resource.blob)} bytes]`;
    }
    default:
      return `[${(part satisfies never as { type: string }).type}]`;
  }
}

function bytesOf(base64: string): number {
  return Buffer.byteLength(base64, "base64");
}

/** Servers repeat structured content as text, for clients that know no other. */
function isSame(text: string, json: string): boolean {
  if (text === json) return true;
  try {
    return JSON.stringify(JSON.parse(text)) === json;
  } catch {
    return false;
  }
}
