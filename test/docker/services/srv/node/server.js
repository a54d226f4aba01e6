'use strict';
// A service in Node: files, a child process, workers, compressed answers.
const http = require('http'), fs = require('fs'), os = require('os'), path = require('path'), zlib = require('zlib');
const { execFile } = require('child_process');
const { Worker, isMainThread, parentPort } = require('worker_threads');

if (!isMainThread) {
	let n = 0;
	for (let i = 0; i < 1e6; i++) n += i % 7;
	parentPort.postMessage(n);
} else {
	const data = '/var/lib/node';
	http.createServer((req, res) => {
		const what = req.url.split('/')[2], arg = req.url.split('/')[3] || 'x';
		const end = (err, text) => { res.statusCode = err ? 500 : 200; res.end(String(err || text)); };
		switch (what) {
		case 'write': {
			const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'node-'));
			fs.writeFileSync(path.join(dir, 'data.json'), JSON.stringify({ arg, now: Date.now() }));
			fs.rmSync(dir, { recursive: true });
			return fs.appendFile(path.join(data, 'events-' + new Date().toISOString().slice(0, 10) + '.ndjson'), arg + '\n', err => end(err, 'ok'));
		}
		case 'run': return execFile('uname', ['-r'], end);
		case 'work': return new Worker(__filename).once('message', n => end(null, n));
		case 'zip': return zlib.brotliCompress(Buffer.alloc(20000, arg), (err, b) => end(err, b && b.length));
		default: return end(null, process.uptime());
		}
	}).listen(3000);
}
