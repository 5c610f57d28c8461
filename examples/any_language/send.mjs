// Two tasks from Node.js, without a package, and their results: node send.mjs ID TEXT
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const [id, text] = process.argv.slice(2);
const gateway = process.env.STOKER_GATEWAY ?? "http://localhost:8080";
const redis = new URL(process.env.STOKER_REDIS_URL ?? "redis://localhost:6379/0");
const call = { task: "count_words", payload: { text } };

// By REST: what is wrong is told at once.
async function post(task) {
  const answer = await fetch(`${gateway}/v1/tasks`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(task),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

// By XADD: a command is a list of texts, each with its length before it. (A client library does the same.)
function xadd(stream, fields) {
  const words = ["XADD", stream, "*", ...Object.entries(fields).flat()];
  const command = `*${words.length}\r\n` + words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("");
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(redis.port || 6379), redis.hostname, () => socket.write(command));
    socket.on("error", reject).once("data", (answer) => {
      socket.end();
      if (answer.toString().startsWith("-")) reject(new Error(answer.toString()));
      else resolve();
    });
  });
}

async function result(task) {
  for (let look = 0; look < 300; look++, await pause(200)) {
    const answer = await fetch(`${gateway}/v1/tasks/${task}?queue=words`);
    if (answer.status === 404) continue; // a worker has not taken it in yet
    const { state, result, failure } = await answer.json();
    if (state === "succeeded") return result.value;
    if (state === "dead" || state === "cancelled") throw new Error(`${task} is ${state}: ${failure?.message}`);
  }
  throw new Error(`${task} has not ended within a minute`);
}

await post({ ...call, queue: "words", id: `${id}-rest` });
await xadd("{stoker:words}:inbox", { task: call.task, payload: JSON.stringify(call.payload), id: `${id}-xadd` });
for (const task of [`${id}-rest`, `${id}-xadd`]) console.log(task, JSON.stringify(await result(task)));
