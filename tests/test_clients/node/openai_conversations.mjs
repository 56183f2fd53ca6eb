// Asks the service everything that a test wants to know of what openai-node finds stored, and prints it as JSON.
import OpenAI from "openai";

const { SERVICE_URL, MODEL, KEY, SAY, CONVERSATION } = process.env;
const client = new OpenAI({ baseURL: `${SERVICE_URL}/v1`, apiKey: KEY, maxRetries: 0 });
const { conversations, responses, chat } = client;
const said = (content) => ({ role: "user", content });

async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

async function spoken() {
  const made = await conversations.create({ items: [said("0")], metadata: { run: "7" } });
  for (let at = 1; at < 45; at += 20) {
    const items = Array.from({ length: Math.min(20, 45 - at) }, (_, more) => said(String(at + more)));
    await conversations.items.create(made.id, { items });
  }
  const texts = async (order) =>
    (await all(conversations.items.list(made.id, { order, limit: 10 }))).map((item) => item.content[0].text);
  const answer = await responses.create({ model: MODEL, input: SAY, conversation: made.id });
  const [last, asked] = (await conversations.items.list(made.id, { limit: 2 })).data;
  const left = await conversations.items.delete(asked.id, { conversation_id: made.id });
  const shown = await conversations.items.retrieve(last.id, { conversation_id: made.id });
  const changed = await conversations.update(made.id, { metadata: { by: "ann" } });
  const again = await conversations.retrieve(made.id);
  const oldest = await texts("asc"), newest = await texts("desc");
  const erased = await conversations.delete(made.id);
  const gone = await conversations.retrieve(made.id).catch((error) => error.code);
  return {
    oldest, newest, gone, erased: erased.deleted, left: left.id === made.id,
    metadata: [made, changed, again].map((one) => one.metadata),
    answered: [last.id === answer.output[0].id, shown.content[0].text === answer.output_text],
  };
}

async function locked() {
  return conversations.items.create(CONVERSATION, { items: [said("hi")] }).catch((error) => [error.status, error.code]);
}

async function kept() {
  const asking = { model: MODEL, messages: [said(SAY)], store: true, metadata: { from: "node" } };
  const answers = [];
  for (let at = 0; at < 5; at += 1) answers.push(await chat.completions.create(asking));
  const listed = await all(chat.completions.list({ limit: 2, metadata: { from: "node" } }));
  const none = await all(chat.completions.list({ metadata: { from: "nowhere" } }));
  const [first] = answers;
  const again = await chat.completions.retrieve(first.id);
  const messages = await all(chat.completions.messages.list(first.id));
  const changed = await chat.completions.update(first.id, { metadata: null });
  const erased = await chat.completions.delete(first.id);
  const gone = await chat.completions.retrieve(first.id).catch((error) => error.status);
  return {
    listed: JSON.stringify(listed) === JSON.stringify(answers), none, gone,
    same: JSON.stringify(again) === JSON.stringify(first), messages: messages.map((one) => one.content),
    metadata: changed.metadata, erased: erased.deleted,
  };
}

const found = {};
for (const concern of [spoken, locked, kept]) found[concern.name] = await concern();
console.log(JSON.stringify(found));
