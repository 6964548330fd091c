// Drives MQTT.js in Node and in a browser alike: commands and what came travel over HTTP to the test that asks.
//
// Node: node driver.js http://127.0.0.1:PORT   Browser: a page that loads mqtt.min.js, then this.

const inNode = typeof window === "undefined";
// The bundle declares a global `mqtt`.
const library = inNode ? require("mqtt") : window.mqtt;
const home = inNode ? process.argv[2] : location.origin;

const clients = new Map();

const encode = (bytes) => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};
const decode = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

// One after the other, so that messages are told in the order in which they came.
let told = Promise.resolve();
function tell(what) {
  told = told.then(() => fetch(home + "/told", { method: "POST", body: JSON.stringify(what) }));
  return told;
}

function toProperties(given) {
  const found = {};
  if (given.content_type !== undefined) found.contentType = given.content_type;
  if (given.response_topic !== undefined) found.responseTopic = given.response_topic;
  if (given.correlation !== undefined) found.correlationData = toBuffer(decode(given.correlation));
  if (given.expiry_s !== undefined) found.messageExpiryInterval = given.expiry_s;
  if (given.user !== undefined) {
    found.userProperties = {};
    for (const [name, value] of given.user) found.userProperties[name] = value;
  }
  return found;
}

function fromProperties(given = {}) {
  const user = [];
  for (const [name, value] of Object.entries(given.userProperties || {})) {
    for (const one of [].concat(value)) user.push([name, one]);
  }
  const correlation = given.correlationData;
  return {
    content_type: given.contentType ?? null,
    response_topic: given.responseTopic ?? null,
    correlation: correlation ? encode(correlation) : null,
    expiry_s: given.messageExpiryInterval ?? null,
    user,
  };
}

const toBuffer = (bytes) => (inNode ? Buffer.from(bytes) : bytes);

const commands = {
  come({ id, url, options, will }) {
    return new Promise((resolve, reject) => {
      if (will) options.will = { ...will, payload: toBuffer(decode(will.payload)) };
      const client = library.connect(url, { ...options, reconnectPeriod: 0, connectTimeout: 60000 });
      clients.set(id, client);
      client.on("message", (topic, payload, packet) => {
        const { qos, retain, properties } = packet;
        tell({ id, topic, payload: encode(payload), qos, retain, properties: fromProperties(properties) });
      });
      client.once("connect", (connack) => resolve(connack.sessionPresent));
      client.once("error", (error) => reject(error));
      client.once("close", () => reject(new Error("closed before CONNACK")));
    });
  },
  async subscribe({ id, topic, qos }) {
    return (await clients.get(id).subscribeAsync(topic, { qos })).map((one) => one.qos);
  },
  async publish({ id, topic, payload, qos, retain, properties }) {
    const options = { qos, retain };
    if (properties) options.properties = toProperties(properties);
    await clients.get(id).publishAsync(topic, toBuffer(decode(payload)), options);
  },
  async leave({ id }) {
    await clients.get(id).endAsync();
  },
  vanish({ id }) {
    const client = clients.get(id);
    const gone = new Promise((resolve) => client.once("close", resolve));
    client.stream.destroy();
    return gone;
  },
  async close({ id }) {
    if (clients.has(id)) await clients.get(id).endAsync(true);
    clients.delete(id);
  },
};

async function obey({ number, verb, ...rest }) {
  try {
    tell({ number, result: (await commands[verb](rest)) ?? null });
  } catch (error) {
    tell({ number, error: String((error && error.stack) || error) });
  }
}

async function main() {
  await tell({ hello: inNode ? process.version : navigator.userAgent });
  for (;;) {
    const answer = await fetch(home + "/next", { cache: "no-store" });
    if (answer.status === 204) continue;
    const command = await answer.json();
    if (command.verb === "end") return;
    obey(command);
  }
}

main().catch((error) => tell({ fatal: String(error) })).finally(() => inNode && told.then(() => process.exit(0)));
