'use strict';
// The page at /: tasks, an image, answers side by side. No framework and nothing from elsewhere; what the server says goes
// into the page as text, never as markup.

const API = 'recast/v1';
const TASKS_A_PAGE = 12;
const SHOWN = 5;           // of an answer, at first
const RANKED = 100;        // that are asked for
const MOST_CHOSEN = 8;
const MOST_LABELS = 60;    // of a task, at first
const MOST_VERSIONS = 20;  // the same
const SEARCH_PAUSE_MS = 250;
const TOKEN = 'recast-token';

const at = id => document.getElementById(id);
const from = template => at(template).content.firstElementChild.cloneNode(true);

// ---- the server ----------------------------------------------------------------------------------------------------

/// What the server says, without the mark of the part that says it.
async function refusal(response, token) {
  const unsaid = `the server answered with ${response.status}`;  // as a proxy does
  const text = await response.json().then(({error}) => typeof error === 'string' ? error : unsaid).catch(() => unsaid);
  const said = text.replace(/^\[\w+\] /, '');
  if (response.status === 401 && !token) return new Error('This server asks for a token: give one above.');
  if (response.status === 403) return new Error(`Not allowed: ${said}`);
  return new Error(said[0].toUpperCase() + said.slice(1));
}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  let response;
  try {
    response = await fetch(path, {...options, headers, redirect: 'error'});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server does not answer.');
  }
  if (response.ok) return response;
  if (response.status === 401) showAccess();
  throw await refusal(response, token);
}

const read = async path => (await call(path)).json();
const pathOf = (model, rest = '') => `${API}/tasks/${encodeURIComponent(model)}${rest}`;

/// The best classes of an image: {version, ms, ranking: [{label, probability}]}.
async function infer(model, image, signal) {
  const head = JSON.stringify({
    inputs: [{name: 'image', datatype: 'BYTES', shape: [1], parameters: {binary_data_size: image.size + 4}}],
    outputs: [{name: 'probabilities', parameters: {classification: RANKED}}],
  });
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, image.size, true);
  const began = performance.now();
  const response = await call(`v2/models/${encodeURIComponent(model)}/infer`, {
    method: 'POST',
    headers: {'Content-Type': 'application/octet-stream', 'Inference-Header-Content-Length': String(head.length)},
    body: new Blob([head, length, image]),
    signal,
  });
  const answer = await response.json();
  const ms = performance.now() - began;
  return {version: answer.model_version, ms, ranking: answer.outputs[0].data.filter(text => text).map(ranked)};
}

/// "0.93:2:rose", the classification extension's text.
function ranked(text) {
  const first = text.indexOf(':'), second = text.indexOf(':', first + 1);
  return {label: text.slice(second + 1), probability: Number(text.slice(0, first))};
}

function base64(image) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => reject(new Error('The image cannot be read any more: choose it again.'));
    reader.readAsDataURL(image);
  });
}

// ---- words ---------------------------------------------------------------------------------------------------------

const percent = share => `${(100 * share).toFixed(1)} %`;
const accuracy = share => share === null || share === undefined ? '–' : percent(share);
const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;
const time = ms => ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; ++unit) count /= 1000;
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

function moment(utc, style) {
  const element = document.createElement('time');
  element.dateTime = utc;
  element.textContent = new Date(utc).toLocaleString(undefined, style);
  return element;
}

function complain(error) {
  if (error.name === 'AbortError') return;
  const message = at('message');
  (at('details').open ? at('details') : document.querySelector('main')).prepend(message);  // where it can be seen
  message.textContent = error.message;
  message.hidden = false;
}

function report(text) {
  at('status').textContent = text;
}

/// What a listener does; what goes wrong is said.
const guarded = work => async event => {
  at('message').hidden = true;
  try {
    await work(event);
  } catch (error) {
    complain(error);
  }
};

// ---- tokens --------------------------------------------------------------------------------------------------------

let settings = {may: {}, examples: []};

function showAccess() {
  at('access').hidden = false;
  at('change-token').hidden = true;
  at('forget-token').hidden = !sessionStorage.getItem(TOKEN);
  at('token').focus();
}

async function useToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
  at('token').value = '';
  await begin();
}

async function begin() {
  settings = {may: {}, examples: []};
  showPage([], false);
  showExamples();
  settings = await read(API);
  at('access').hidden = true;
  at('change-token').hidden = !settings.tokens;
  at('about').textContent = `Version ${settings.version}` + (settings.caller ? `, token ${settings.caller}` : '');
  if (!settings.may.infer) complain(new Error('This token may look, but not ask: answers need the role infer.'));
  showExamples();
  await turnTo(['']);
}

// ---- the list of tasks ---------------------------------------------------------------------------------------------

let starts = [''];  // after which name each page begins, up to the one that is shown
let listing = 0;    // which of several answers counts: that of the last question

/// A page of tasks. The server looks at so many names a time, so it may take several questions.
async function tasksAfter(after, search, current) {
  const found = [];
  do {
    const page = await read(`${API}/tasks?${new URLSearchParams({search, after, limit: TASKS_A_PAGE - found.length})}`);
    if (!current()) return null;
    found.push(...page.tasks);
    after = page.next;
  } while (after !== null && found.length < TASKS_A_PAGE);
  return {found, next: after};
}

async function turnTo(pages) {
  if (settings.may.read === false) {
    showPage([], false);
    at('empty').textContent = 'This token may not list the tasks (role read): name one below.';
    at('empty').hidden = false;
    return;
  }
  const mine = ++listing;
  const page = await tasksAfter(pages.at(-1), at('search').value.trim(), () => mine === listing);
  if (!page) return;
  starts = page.next === null ? pages : [...pages, page.next];
  showPage(page.found, page.next !== null, pages.length);
  report(page.found.length === 0 ? 'No task' : counted(page.found.length, 'task', 'tasks'));
}

function showPage(tasks, more, number = 1) {
  at('rows').replaceChildren(...tasks.map(taskRow));
  at('list').hidden = tasks.length === 0;
  at('validated').hidden = !tasks.some(validated);
  at('empty').hidden = tasks.length > 0;
  at('empty').textContent = at('search').value ? 'No task has a name like this.' : 'No task yet: recast learn makes one.';
  at('pages').hidden = !more && number === 1;
  at('page-number').textContent = `Page ${number}`;
  at('pages').dataset.number = number;
  at('previous').disabled = number === 1;
  at('next').disabled = !more;
}

const validated = task => task.test_top1 === null && task.validation_top1 !== null;

function taskRow(task) {
  const row = from('task-row');
  const name = row.querySelector('button');
  name.textContent = task.name;
  name.addEventListener('click', guarded(() => showDetails(task.name)));
  row.querySelector('.below').textContent =
    [`version ${task.version}`, ...task.tags, ...(task.ready ? [] : ['unloaded'])].join(', ');
  row.querySelector('.accuracy').textContent =
    accuracy(task.test_top1 ?? task.validation_top1) + (validated(task) ? '*' : '');
  row.querySelector('.classes').textContent = task.classes;
  row.querySelector('.bytes').textContent = bytes(task.state_bytes);
  row.querySelector('.made').append(moment(task.created_utc, {dateStyle: 'medium'}));
  follow(row.querySelector('input'), task.name);
  return row;
}

/// A box that says whether a model is asked, wherever that is decided.
function follow(box, model) {
  box.setAttribute('aria-label', `Ask ${model}`);
  box.dataset.model = model;
  box.checked = chosen.has(model);
  box.addEventListener('change', guarded(() => box.checked ? choose(model) : drop(model)));
}

function markBoxes(model) {
  for (const box of document.querySelectorAll('input[data-model]'))
    if (box.dataset.model === model) box.checked = chosen.has(model);
}

// ---- one task ------------------------------------------------------------------------------------------------------

async function showDetails(model) {
  const task = await read(pathOf(model));
  at('details-heading').textContent = task.name;
  at('facts').replaceChildren(...Object.entries({
    Base: task.base,
    'Newest version': task.versions.at(-1).version,
    'Image size': `${task.image_size} pixels`,
    Labels: task.labels.length,
  }).flatMap(([term, fact]) => [element('dt', term), element('dd', fact)]));
  fill(at('labels'), at('all-labels'), task.labels, MOST_LABELS, label => element('li', label), 'labels');
  const versions = [...task.versions].reverse();
  fill(at('versions'), at('all-versions'), versions, MOST_VERSIONS, version => versionRow(task.name, version), 'versions');
  at('details').showModal();
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/// The first few of a list, and a button for the others.
function fill(list, button, entries, most, make, what) {
  list.replaceChildren(...entries.slice(0, most).map(make));
  button.hidden = entries.length <= most;
  button.textContent = `Show all ${entries.length} ${what}`;
  button.onclick = () => {
    list.append(...entries.slice(most).map(make));
    button.hidden = true;
  };
}

function versionRow(name, version) {
  const row = from('version-row');
  const head = row.querySelector('.version');
  head.prepend(`${version.version} `, ...version.tags.map(tag => {
    const mark = element('span', tag);
    mark.className = 'tag';
    return mark;
  }));
  row.querySelector('.made').append(moment(version.created_utc, {dateStyle: 'medium', timeStyle: 'short'}));
  row.querySelector('.below').textContent = version.plugs.join(' + ');
  row.querySelector('.test').textContent = accuracy(version.test_top1);
  row.querySelector('.validation').textContent = accuracy(version.validation_top1);
  row.querySelector('.bytes').textContent = bytes(version.state_bytes);
  follow(row.querySelector('input'), `${name}:${version.version}`);
  return row;
}

// ---- the image -----------------------------------------------------------------------------------------------------

let image = null;  // a Blob, with a name

async function take(blob, name) {
  const most = settings.image_bytes;
  if (blob.size > most) throw new Error(`${name} has ${bytes(blob.size)}; at most ${bytes(most)} are taken.`);
  image = {blob, name};
  const preview = at('preview');
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.alt = `The image to ask about: ${name}`;
  preview.hidden = false;
  for (const button of at('example-list').querySelectorAll('button'))
    button.setAttribute('aria-pressed', String(button.dataset.name === name));
  await ask();
}

const imageIn = transfer => [...transfer?.files ?? []].find(file => file.type.startsWith('image/'));

function showExamples() {
  const list = at('example-list');
  for (const old of list.querySelectorAll('img')) URL.revokeObjectURL(old.src);
  at('examples').hidden = settings.examples.length === 0;
  list.replaceChildren(...settings.examples.map(exampleItem));
}

function exampleItem(name) {
  const item = document.createElement('li'), button = document.createElement('button'), picture = new Image();
  button.type = 'button';
  button.dataset.name = name;
  button.setAttribute('aria-pressed', 'false');
  picture.alt = `Example ${name}`;
  const loaded = call(`${API}/examples/${encodeURIComponent(name)}`).then(response => response.blob());
  loaded.then(blob => { picture.src = URL.createObjectURL(blob); }, complain);
  button.addEventListener('click', guarded(async () => take(await loaded, name)));
  button.append(picture);
  item.append(button);
  return item;
}

// ---- answers -------------------------------------------------------------------------------------------------------

const chosen = new Map();  // model -> {model, card, image and answer once there is one}, in the order of the page
let asking = new AbortController();

async function choose(model) {
  if (chosen.has(model)) return;
  if (chosen.size === MOST_CHOSEN) {
    markBoxes(model);
    throw new Error(`At most ${MOST_CHOSEN} are asked at a time: remove one first.`);
  }
  const card = from('answer');
  card.querySelector('h3').textContent = model;
  const remove = card.querySelector('.remove');
  remove.setAttribute('aria-label', `Remove ${model}`);
  remove.addEventListener('click', guarded(() => {
    drop(model);
    at('tasks').focus();
  }));
  const entry = {model, card};
  setState(card, 'No image yet');
  prepareCorrection(entry);
  chosen.set(model, entry);
  at('answers').append(card);
  markBoxes(model);
  await ask();
}

function drop(model) {
  chosen.get(model)?.card.remove();
  chosen.delete(model);
  markBoxes(model);
  showState();
  compare();
}

function showState() {
  at('again').hidden = !image || chosen.size === 0;
  at('hint').hidden = Boolean(image) && chosen.size > 0;
  at('hint').textContent = image ? 'Choose one or more tasks.' :
    chosen.size > 0 ? 'Choose an image.' : 'Choose one or more tasks and an image.';
}

function setState(card, text, failed = false) {
  card.querySelector('.state').textContent = text;
  card.querySelector('.state').classList.toggle('failed', failed);
}

/// Asks those that have not answered about this image, one after the other: times then are those of one request.
async function ask() {
  asking.abort();
  asking = new AbortController();
  const {signal} = asking;
  const waiting = image ? [...chosen.values()].filter(entry => entry.image !== image) : [];
  for (const entry of waiting) clear(entry);
  showState();
  compare();
  const said = [];
  for (const entry of waiting) {
    if (!chosen.has(entry.model)) continue;
    said.push(await askOne(entry, signal));
    if (signal.aborted) return;
  }
  compare();
  if (said.length) report(said.join('. '));
}

function clear(entry) {
  entry.image = entry.answer = null;
  setState(entry.card, 'Waiting');
  for (const bars of entry.card.querySelectorAll('.bars')) bars.replaceChildren();
  for (const part of entry.card.querySelectorAll('details')) part.hidden = true;
}

async function askOne(entry, signal) {
  const asked = image;
  setState(entry.card, 'Asking…');
  try {
    const answer = await infer(entry.model, asked.blob, signal);
    if (signal.aborted) return '';
    entry.image = asked;
    entry.answer = answer;
    showAnswer(entry);
    return `${entry.model}: ${answer.ranking[0].label}, ${percent(answer.ranking[0].probability)}`;
  } catch (error) {
    if (signal.aborted) return '';
    setState(entry.card, error.message, true);
    return `${entry.model}: ${error.message}`;
  }
}

function bar({label, probability}) {
  const item = from('bar');
  item.querySelector('.label').textContent = label;
  item.querySelector('.percent').textContent = percent(probability);
  item.querySelector('.fill').style.width = `${100 * probability}%`;
  return item;
}

function showAnswer({card, answer}) {
  setState(card, `version ${answer.version}, ${time(answer.ms)}`);
  const [first, rest] = [answer.ranking.slice(0, SHOWN), answer.ranking.slice(SHOWN)];
  card.querySelector(':scope > .bars').replaceChildren(...first.map(bar));
  const more = card.querySelector('.rest');
  more.hidden = rest.length === 0;
  more.querySelector('summary').textContent = counted(rest.length, 'more label', 'more labels');
  more.querySelector('.bars').replaceChildren(...rest.map(bar));
  card.querySelector('.correct').hidden = !settings.may.correct;
  card.querySelector('.saved').textContent = '';
}

// ---- versions of a task beside each other --------------------------------------------------------------------------

const taskOf = model => model.split(':')[0];

function compare() {
  const groups = new Map();
  for (const entry of chosen.values())
    if (entry.answer) groups.set(taskOf(entry.model), [...groups.get(taskOf(entry.model)) ?? [], entry]);
  at('comparisons').replaceChildren(
    ...[...groups].filter(([, entries]) => entries.length > 1).map(([task, entries]) => comparison(task, entries)));
}

function comparison(task, entries) {
  const best = entries.map(({answer}) => answer.ranking[0].label);
  const agree = best.every(label => label === best[0]);
  const labels = [...new Set(entries.flatMap(({answer}) => answer.ranking.slice(0, SHOWN).map(({label}) => label)))];
  const shares = entries.map(({answer}) => new Map(answer.ranking.map(({label, probability}) => [label, probability])));
  const table = document.createElement('table');
  table.append(element('caption', `${task}: ${agree ? `all say ${best[0]}` : 'the versions differ'}`));
  const head = table.createTHead().insertRow();
  const heading = (text, number) => {
    const cell = element('th', text);
    cell.scope = 'col';
    if (number) cell.className = 'number';
    head.append(cell);
  };
  heading('Label');
  for (const {model, answer} of entries) heading(`${model} (version ${answer.version})`, true);
  if (entries.length === 2) heading('Difference', true);
  const body = table.createTBody();
  for (const label of labels) body.append(comparisonRow(label, shares.map(share => share.get(label))));
  const frame = document.createElement('div');
  frame.className = 'list comparison';
  frame.tabIndex = 0;
  frame.setAttribute('role', 'region');
  frame.setAttribute('aria-label', `Versions of ${task} compared`);
  frame.append(table);
  return frame;
}

function comparisonRow(label, shares) {
  const row = document.createElement('tr');
  const head = element('th', label);
  head.scope = 'row';
  const cells = shares.map(accuracy);
  if (shares.length === 2) {
    const points = 100 * (shares[1] - shares[0]);
    cells.push(Number.isNaN(points) ? '–' : `${points < 0 ? '−' : '+'}${Math.abs(points).toFixed(1)} points`);
  }
  row.append(head, ...cells.map(text => {
    const cell = element('td', text);
    cell.className = 'number';
    return cell;
  }));
  return row;
}

// ---- corrections ---------------------------------------------------------------------------------------------------

let ties = 0;

/// Ties a label to what it is about, which in a copy of a template has no id of its own.
function tie(label, control) {
  control.id = `control-${++ties}`;
  label.htmlFor = control.id;
}

function prepareCorrection(entry) {
  const part = entry.card.querySelector('.correct'), saved = part.querySelector('.saved');
  const select = part.querySelector('select'), fresh = part.querySelector('input');
  const [itIs, newLabel] = part.querySelectorAll('label');
  tie(itIs, select);
  tie(newLabel, fresh);
  const say = (text, kind) => {
    saved.textContent = text;
    saved.className = `saved ${kind}`;
  };
  part.addEventListener('toggle', guarded(async () => {
    if (!part.open || select.options.length) return;
    const labels = [...(await read(pathOf(taskOf(entry.model)))).labels].sort((a, b) => a.localeCompare(b));
    select.replaceChildren(new Option('…', ''), ...labels.map(label => new Option(label, `=${label}`)),
                           new Option('a new label', '+'));
  }));
  select.addEventListener('change', () => {
    fresh.hidden = newLabel.hidden = select.value !== '+';
    if (!fresh.hidden) fresh.focus();
  });
  part.querySelector('form').addEventListener('submit', async event => {
    event.preventDefault();
    const isNew = select.value === '+';
    const label = isNew ? fresh.value.trim() : select.value.slice(1);
    if (!label) return say('Choose what it is first.', 'failed');
    say('Saving…', '');
    try {
      say(savedText(await correct(entry, label, isNew)), 'done');
    } catch (error) {
      say(error.message, 'failed');
    }
  });
}

async function correct(entry, label, isNew) {
  const body = JSON.stringify({label, new_label: isNew, image: await base64(entry.image.blob)});
  const response = await call(pathOf(taskOf(entry.model), '/corrections'),
                              {method: 'POST', headers: {'Content-Type': 'application/json'}, body});
  return response.json();
}

function savedText({file, images, moved_from: before}) {
  return `Saved as ${file}` + (before ? `, no longer under ${before}` : '') +
    `: ${counted(images, 'correction', 'corrections')} of this task so far.`;
}

// ---- what happens when ---------------------------------------------------------------------------------------------

const submits = work => guarded(async event => {
  event.preventDefault();
  await work();
});

at('token-form').addEventListener('submit', submits(() => useToken(at('token').value.trim())));
at('forget-token').addEventListener('click', guarded(() => useToken('')));
at('change-token').addEventListener('click', showAccess);

let pause = 0;
at('search').addEventListener('input', () => {
  clearTimeout(pause);
  pause = setTimeout(guarded(() => turnTo([''])), SEARCH_PAUSE_MS);
});
at('search-form').addEventListener('submit', submits(() => turnTo([''])));
at('next').addEventListener('click', guarded(() => turnTo(starts)));
at('previous').addEventListener('click', guarded(() => turnTo(starts.slice(0, Number(at('pages').dataset.number) - 1))));
at('name-form').addEventListener('submit', submits(async () => {
  const model = at('name').value.trim();
  at('name').value = '';
  await choose(model);
}));

at('file').addEventListener('change', guarded(async event => {
  const [file] = event.target.files;
  if (file) await take(file, file.name);
}));
document.addEventListener('dragover', event => {
  event.preventDefault();
  at('drop').classList.add('over');
});
document.addEventListener('dragleave', () => at('drop').classList.remove('over'));
document.addEventListener('drop', guarded(async event => {
  event.preventDefault();
  at('drop').classList.remove('over');
  const file = imageIn(event.dataTransfer);
  if (!file) throw new Error('That is no image file.');
  await take(file, file.name);
}));
document.addEventListener('paste', guarded(async event => {
  const file = imageIn(event.clipboardData);
  if (file) await take(file, file.name);
}));

at('again').addEventListener('click', guarded(async () => {
  for (const entry of chosen.values()) clear(entry);
  await ask();
}));
at('close-details').addEventListener('click', () => at('details').close());

guarded(begin)();
