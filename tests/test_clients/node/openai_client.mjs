// Asks the service everything that a test wants to know of openai-node, and prints what came of it as JSON.
import OpenAI from "openai";

const { SERVICE_URL, MODEL, KEY, POWERLESS_KEY, ONE_AT_ONCE_KEY, USED_UP_KEY, CONVERSATION } = process.env;
const { SAY, CALL, SUNNY, BREAKING, LONG } = process.env;

const client = (options = {}) =>
  new OpenAI({ baseURL: `${SERVICE_URL}/v1`, apiKey: KEY, maxRetries: 0, ...options });
const user = (content) => [{ role: "user", content }];
const asking = (content, more = {}) => ({ model: MODEL, messages: user(content), ...more });
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];

async function whole() {
  const answer = await client().chat.completions.create(asking(SAY));
  const models = [];
  for await (const model of client().models.list()) models.push(model.id);
  return { text: answer.choices[0].message.content, usage: answer.usage, requestId: answer._request_id, models };
}

async function streamed() {
  let text = "", reason, usage;
  const more = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client().chat.completions.create(asking(SAY, more))) {
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  const helped = await client().chat.completions.stream(asking(SAY)).finalChatCompletion();
  return { text, reason, usage, helped: helped.choices[0].message.content };
}

async function called() {
  const { choices } = await client().chat.completions.create(asking(CALL, { tools }));
  const streamed = await client().chat.completions.stream(asking(CALL, { tools })).finalChatCompletion();
  const [call] = choices[0].message.tool_calls;
  const result = { role: "tool", tool_call_id: call.id, content: SUNNY };
  const messages = [...user(CALL), choices[0].message, result];
  const answer = await client().chat.completions.create({ model: MODEL, messages, tools });
  const calls = [call, streamed.choices[0].message.tool_calls[0]].map((one) => one.function);
  return { calls, reason: choices[0].finish_reason, answer: answer.choices[0].message.content };
}

async function errorOf(ask) {
  try {
    await ask();
  } catch (error) {
    const { status, code, type, param, requestID } = error;
    return { kind: error.constructor.name, status, code, type, param, requestID, message: error.message };
  }
  return null;
}

async function errors() {
  const create = (body, options) => () => client(options).chat.completions.create(body);
  const locked = { prompt: "hi", conversation_id: CONVERSATION };
  return {
    400: await errorOf(create(asking("hi", { temperature: 3 }))),
    401: await errorOf(create(asking("hi"), { apiKey: "sk-nonsense" })),
    403: await errorOf(create(asking("hi"), { apiKey: POWERLESS_KEY })),
    404: await errorOf(create({ ...asking("hi"), model: "gpt-4" })),
    409: await errorOf(() => client().post(`${SERVICE_URL}/chat/new/message/`, { body: locked })),
    429: await errorOf(create(asking("hi"), { apiKey: USED_UP_KEY })),
    503: await errorOf(create(asking(BREAKING))),
  };
}

async function brokenStream() {
  let text = "";
  const error = await errorOf(async () => {
    for await (const chunk of await client().chat.completions.create(asking(BREAKING, { stream: true }))) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
  });
  const helper = await errorOf(() => client().chat.completions.stream(asking(BREAKING)).finalChatCompletion());
  return { text, error, helper };
}

// A key with one place: the first answer to say 429 frees it.
async function retried() {
  const statuses = [];
  let running;
  const fetchAndFree = async (...request) => {
    const response = await fetch(...request);
    statuses.push(response.status);
    if (response.status === 429) running.controller.abort();
    return response;
  };
  running = await client({ apiKey: ONE_AT_ONCE_KEY }).chat.completions.create(asking(LONG, { stream: true }));
  const patient = client({ apiKey: ONE_AT_ONCE_KEY, maxRetries: 5, fetch: fetchAndFree });
  const answer = await patient.chat.completions.create(asking(SAY));
  return { statuses, text: answer.choices[0].message.content };
}

async function retriedInVain() {
  let attempts = 0;
  const counting = (...request) => { attempts += 1; return fetch(...request); };
  const patient = client({ apiKey: USED_UP_KEY, maxRetries: 5, fetch: counting });
  const error = await errorOf(() => patient.chat.completions.create(asking("hi")));
  return { attempts, kind: error.kind };
}

async function left() {
  const stream = await client().chat.completions.create(asking(LONG, { stream: true }));
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  return true;
}

const found = {};
for (const concern of [whole, streamed, called, errors, brokenStream, retried, retriedInVain, left]) {
  found[concern.name] = await concern();
}
console.log(JSON.stringify(found));
