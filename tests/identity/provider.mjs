// An OpenID provider of our own with two users: oidc-provider, a certified implementation, behind pages of ours.
//
// Usage: node provider.mjs FOLDER REDIRECT_URI..., where FOLDER has the node_modules with oidc-provider. It listens on a
// free port of loopback, and writes its address into the file `issuer` of the working folder.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, ...redirects] = process.argv.slice(2);
const packages = createRequire(`${folder}/package.json`);
const { default: Provider } = await import(pathToFileURL(packages.resolve('oidc-provider')));

const USERS = {
  17: { login: 'alice', password: 'password-of-alice', groups: ['hydro', 'operators'] },
  18: { login: 'bob', password: 'password-of-bob', groups: ['guests'] },
};
const CODE = 'authorization_code';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const BROWSER = { redirect_uris: redirects, grant_types: [CODE, DEVICE], response_types: ['code'] };
const NO_BROWSER = { redirect_uris: [], response_types: [] };
// Of a secret with such characters another one arrives if it is not encoded as in a form (RFC 6749, 2.3.1).
const SECRET = 's3cret%2B:with+signs';

const CLIENTS = [
  { client_id: 'gateway', client_secret: SECRET, ...BROWSER },
  { client_id: 'public-gateway', token_endpoint_auth_method: 'none', ...BROWSER },
  { client_id: 'hasty-gateway', client_secret: SECRET, ...BROWSER },
  { client_id: 'laptop', token_endpoint_auth_method: 'none', grant_types: [DEVICE], ...NO_BROWSER },
  { client_id: 'pipeline', client_secret: SECRET, grant_types: ['client_credentials'], ...NO_BROWSER },
];

function claimsOf(sub) {
  const { login, groups } = USERS[sub];
  return { sub, preferred_username: login, name: login.toUpperCase(), groups };
}

function page(title, body) {
  return `<!DOCTYPE html><html lang="en"><title>${title}</title><h1>${title}</h1>${body}</html>`;
}

// Every request to it may be answered with a token for a program, which is a JSON Web Token then (RFC 8707, 9068).
const RESOURCE = {
  scope: 'dask',
  accessTokenTTL: 600,
  accessTokenFormat: 'jwt',
  jwt: { sign: { alg: 'RS256' } },
};

const configuration = {
  clients: CLIENTS,
  claims: { openid: ['sub'], profile: ['preferred_username', 'name'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  cookies: { keys: [randomBytes(16).toString('hex')] },
  jwks: { keys: [generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })] },
  pkce: { required: () => true },
  findAccount: (ctx, sub) => (USERS[sub] ? { accountId: sub, claims: () => claimsOf(sub) } : undefined),
  // What a program may do is told in its token: as its owner, or as itself.
  extraTokenClaims: (ctx, token) =>
    token.accountId ? claimsOf(token.accountId) : { preferred_username: token.clientId, groups: ['robots'] },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  renderError: (ctx, out) => {
    ctx.type = 'html';
    ctx.body = page('That went wrong', `<p>${out.error}: ${out.error_description ?? ''}</p>`);
  },
  ttl: {
    AccessToken: 600,
    AuthorizationCode: 60,
    ClientCredentials: 600,
    DeviceCode: (ctx, code, client) => (client.clientId === 'hasty-gateway' ? 2 : 600),
    Grant: 3600,
    IdToken: 600,
    Interaction: 600,
    Session: 3600,
  },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, indicator) => ({ ...RESOURCE, audience: indicator }),
    },
    deviceFlow: {
      enabled: true,
      userCodeInputSource: (ctx, form, out, error) => {
        ctx.body = page('Which code?', `${form}<p>${error ? error.message : ''}</p>${button('op.deviceInputForm')}`);
      },
      userCodeConfirmSource: (ctx, form, client, device, code) => {
        const abort = '<button form="op.deviceConfirmForm" name="abort" value="yes">No</button>';
        ctx.body = page(`Is it ${code}?`, `${form}${button('op.deviceConfirmForm')}${abort}`);
      },
      successSource: (ctx) => {
        ctx.body = page('Your terminal is logged in', '<p>Close this page.</p>');
      },
    },
  },
};

function button(form) {
  return `<button form="${form}">Continue</button>`;
}

// -- our pages: who are you, and may they know it ---------------------------------------------------------------------

function loginPage(wrong) {
  const fields = '<label>Name <input name="login"></label><label>Password <input name="password" type="password"></label>';
  return page('Log in', `<form method="post">${fields}<button>Log in</button></form><p>${wrong}</p>`);
}

function consentPage(client) {
  const answers = '<button name="answer" value="allow">Allow</button><button name="answer" value="deny">Deny</button>';
  return page(`May ${client} know who you are?`, `<form method="post">${answers}</form>`);
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
}

async function grant({ params, session, prompt, grantId }) {
  const { accountId } = session;
  const given = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId, clientId: params.client_id });
  given.addOIDCScope((prompt.details.missingOIDCScope ?? []).join(' '));
  for (const [indicator, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    given.addResourceScope(indicator, scopes.join(' '));
  }
  return given.save();
}

async function interact(ctx) {
  const interaction = await provider.interactionDetails(ctx.req, ctx.res);
  const finish = (result) => provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  const asked = interaction.prompt.name;
  ctx.type = 'html';
  if (ctx.method === 'GET') {
    ctx.body = asked === 'login' ? loginPage('') : consentPage(interaction.params.client_id);
    return;
  }
  const form = await read(ctx.req);
  if (asked === 'login') {
    const found = Object.entries(USERS).find(([, u]) => u.login === form.login && u.password === form.password);
    if (!found) {
      ctx.status = 401;
      ctx.body = loginPage('Wrong name or password');
      return;
    }
    ctx.redirect(await finish({ login: { accountId: found[0] } }));
  } else if (form.answer === 'allow') {
    ctx.redirect(await finish({ consent: { grantId: await grant(interaction) } }));
  } else {
    ctx.redirect(await finish({ error: 'access_denied', error_description: 'the user said no' }));
  }
}

// -- serving ----------------------------------------------------------------------------------------------------------

const server = createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration);
provider.use(async (ctx, next) => {
  if (ctx.path.startsWith('/interaction/')) {
    await interact(ctx);
    return;
  }
  await next();
  // Terminals ask again after five seconds where they are told nothing, which is long for a test.
  if (ctx.path === '/device/auth' && ctx.status === 200) ctx.body.interval = 1;
});
writeFileSync('issuer.half', issuer);
renameSync('issuer.half', 'issuer');
