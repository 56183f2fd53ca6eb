// Asks the service everything that a test wants to know of openai-node's responses, and prints what came of it as JSON.
import OpenAI from "openai";

const { SERVICE_URL, MODEL, KEY, SAY, CALL, SUNNY, JSON: FORMATTED, BREAKING, LONG } = process.env;
const { responses } = new OpenAI({ baseURL: `${SERVICE_URL}/v1`, apiKey: KEY, maxRetries: 0 });
const asking = (input, more = {}) => ({ model: MODEL, input, ...more });
const tools = [{ type: "function", name: "get_weather", parameters: { type: "object" }, strict: false }];

async function whole() {
  const answer = await responses.create(asking(SAY, { instructions: "Be brief.", metadata: { run: "7" } }));
  const again = await responses.retrieve(answer.id);
  const items = [];
  for await (const item of responses.inputItems.list(answer.id)) items.push(item.content[0].text);
  const counted = await responses.inputTokens.count(asking(SAY, { instructions: "Be brief." }));
  await responses.delete(answer.id);
  const gone = await responses.retrieve(answer.id).catch((error) => error.code);
  return {
    text: answer.output_text,
    same: JSON.stringify(again.output) === JSON.stringify(answer.output),
    items, gone, tokens: [counted.input_tokens, answer.usage.input_tokens],
  };
}

async function streamed() {
  let text = "";
  const kinds = [];
  for await (const event of await responses.create(asking(SAY, { stream: true }))) {
    if (event.type === "response.output_text.delta") text += event.delta;
    else kinds.push(event.type);
  }
  const helped = await responses.stream(asking(SAY)).finalResponse();
  return { text, kinds, helped: helped.output_text };
}

async function called() {
  const asked = await responses.stream(asking(CALL, { tools })).finalResponse();
  const [call] = asked.output;
  const result = { type: "function_call_output", call_id: call.call_id, output: SUNNY };
  const answer = await responses.create(asking([result], { tools, previous_response_id: asked.id }));
  const without = await responses.create(asking("hi", { previous_response_id: asked.id })).catch((error) => error.status);
  return { name: call.name, arguments: call.arguments, answer: answer.output_text, without };
}

async function chained() {
  let previous = {};
  const said = [];
  for (let at = 0; at < 20; at += 1) {
    const answer = await responses.create(asking(JSON.stringify({ say: `answer ${at}` }), previous));
    said.push(answer.output_text);
    previous = { previous_response_id: answer.id };
  }
  return said;
}

async function formatted() {
  const schema = { type: "object", properties: { city: { type: "string" } } };
  const text = { format: { type: "json_schema", name: "city", schema, strict: true } };
  return (await responses.parse(asking(FORMATTED, { text }))).output_parsed;
}

async function inBackground() {
  const more = { background: true, stream: true };
  let text = "", last, id;
  for await (const event of await responses.create(asking(SAY, more))) {
    id ??= event.response.id;
    last = event.sequence_number;
    if (event.type !== "response.output_text.delta") continue;
    text += event.delta;
    break;
  }
  for await (const event of await responses.retrieve(id, { stream: true, starting_after: last })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  const running = await responses.create(asking(LONG, { background: true }));
  const cancelled = await responses.cancel(running.id);
  return { text, statuses: [running.status, cancelled.status] };
}

async function broken() {
  const kinds = [];
  for await (const event of await responses.create(asking(BREAKING, { stream: true }))) kinds.push(event.type);
  return kinds.at(-1);
}

const found = {};
for (const concern of [whole, streamed, called, chained, formatted, inBackground, broken]) {
  found[concern.name] = await concern();
}
console.log(JSON.stringify(found));
