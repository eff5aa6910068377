// Reads payloads, one in hexadecimal on each line, and writes what sparkplug-payload makes of them as JSON lines.
const codec = require("sparkplug-payload").get("spBv1.0");
const lines = require("fs").readFileSync(0, "utf8").split("\n").filter((line) => line.length);
const plain = (key, value) =>
  value !== null && typeof value === "object" && typeof value.toNumber === "function" ? value.toNumber() : value;
for (const line of lines) {
  console.log(JSON.stringify(codec.decodePayload(Buffer.from(line, "hex")), plain));
}
