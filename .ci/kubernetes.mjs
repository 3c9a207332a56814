// Checks src/packaging/kubernetes.yaml against the schemas of Kubernetes, and for what no schema demands.
//   npm install --prefix build/npm kubernetes-models@4.5.1 js-yaml@4
//   node .ci/kubernetes.mjs build/npm src/packaging/kubernetes.yaml
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [modules, file] = process.argv.slice(2);
const require = createRequire(resolve(modules, 'package.json'));
const { loadAll } = require('js-yaml');

/// Throws if the schema forbids something, or if the object has a field that the schema never looks at.
function check(schema, object) {
  const { validate } = require(resolve(modules, `node_modules/kubernetes-models/_schemas/${schema}.js`));
  const unread = new Set();
  const watch = (value, path) => {
    if (typeof value !== 'object' || value === null)
      return value;
    const copy = Array.isArray(value) ? [] : {};
    for (const [key, child] of Object.entries(value)) {
      copy[key] = watch(child, `${path}.${key}`);
      unread.add(`${path}.${key}`);
    }
    return new Proxy(copy, {
      get(target, key) {
        unread.delete(`${path}.${String(key)}`);
        return target[key];
      },
    });
  };
  assert.ok(validate(watch(object, object.kind)), JSON.stringify(validate.errors));
  assert.deepEqual([...unread], [], 'fields that Kubernetes does not know');
}

// The manifest must be valid as it is, and also with its commented lines.
const text = readFileSync(file, 'utf8');
const uncommented = text.replace(/^( +)#(\w+:|  .*)$/gm, '$1$2');
assert.notEqual(uncommented, text);
for (const manifest of [text, uncommented]) {
  const [deployment, service, ...rest] = loadAll(manifest);
  assert.equal(rest.length, 0);
  check('IoK8sApiAppsV1Deployment', deployment);
  check('IoK8sApiCoreV1Service', service);
}
const [{ spec: { template: greeting } }] = loadAll(uncommented);
assert.deepEqual(greeting.spec.containers[0].env,
  [{ name: 'ECHO_SERVER_GREETING', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }]);

const [deployment, service] = loadAll(text);
const { template, strategy } = deployment.spec;
const pod = template.spec;
const [container] = pod.containers;
const flags = Object.fromEntries(container.args.map((flag) => flag.split('=')));

// The Service leads to the pods, and to the port that the server listens on.
const port = service.spec.ports[0];
const [listens] = container.ports;
assert.deepEqual(service.spec.selector, template.metadata.labels);
assert.deepEqual(deployment.spec.selector.matchLabels, template.metadata.labels);
assert.equal(port.targetPort, listens.name);
assert.equal(flags['--port'], String(listens.containerPort));
for (const probe of [container.readinessProbe, container.livenessProbe])
  assert.equal(probe.tcpSocket.port, listens.name);

// IPv4-only and IPv6-only clusters both reach the server.
assert.equal(flags['--host'], '::');
assert.equal(service.spec.ipFamilyPolicy, 'PreferDualStack');

// Clients that send and never read fill at most 165 KiB of socket buffers, measured with these sysctls; all else that a
// connection needs is 40 KiB. The pod must not be killed for it.
assert.deepEqual(pod.securityContext.sysctls, [
  { name: 'net.ipv4.tcp_rmem', value: '4096 65536 65536' },
  { name: 'net.ipv4.tcp_wmem', value: '4096 16384 65536' },
]);
const kibibytes = Number(flags['--max-connections']) * (165 + 40);
assert.match(container.resources.limits.memory, /^\d+Mi$/);
assert.ok(kibibytes < 0.9 * 1024 * parseInt(container.resources.limits.memory, 10), 'too little memory');

// A rolling update loses no connection, and probes do not fill the log.
assert.equal(strategy.rollingUpdate.maxUnavailable, 0);
assert.match(flags['--drain-timeout'], /^\d+s$/);
const stop = container.lifecycle.preStop.sleep.seconds + parseInt(flags['--drain-timeout'], 10);
assert.ok(pod.terminationGracePeriodSeconds > stop, 'the pod is killed before the drain is over');
assert.equal(flags['--log-level'], 'warn');

// The restricted pod security standard.
assert.equal(pod.securityContext.runAsNonRoot, true);
assert.equal(pod.securityContext.seccompProfile.type, 'RuntimeDefault');
assert.equal(container.securityContext.allowPrivilegeEscalation, false);
assert.deepEqual(container.securityContext.capabilities, { drop: ['ALL'] });
for (const given of ['hostNetwork', 'hostPID', 'hostIPC', 'volumes'])
  assert.ok(!(given in pod), given);

console.log(`${file}: ${deployment.kind} and ${service.kind} are right`);
