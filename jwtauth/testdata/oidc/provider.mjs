// An OpenID provider for the tests: node provider.mjs <port>, in a directory
// with oidc-provider installed. Line by line on its input it takes `rotate`: publish a new key, and sign with it from
// now on; the old ones stay. It answers each with a line.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { generateKeyPairSync } from 'node:crypto';

const require = createRequire(`${process.cwd()}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

let count = 0;
const newKey = () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${++count}`, use: 'sig', alg: 'RS256' };
};

let keys = [newKey()];
let handle;
let port = Number(process.argv[2]);

const build = () => {
  const resource = 'https://api.test';
  handle = new Provider(`http://127.0.0.1:${port}`, {
    jwks: { keys },
    clients: [{
      client_id: 'service', client_secret: 'service-secret-of-the-tests',
      grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    }],
    scopes: ['orders:read'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        getResourceServerInfo: () => ({
          scope: 'orders:read', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  }).callback();
};

const server = createServer((req, res) => handle(req, res));
server.listen(port, '127.0.0.1', () => {
  port = server.address().port;
  build();
  console.log(`ready ${port}`);
});

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'rotate') keys = [newKey(), ...keys];
  build();
  console.log(`done ${keys.map((k) => k.kid).join(' ')}`);
}).on('close', () => process.exit(0));
