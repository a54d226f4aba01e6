package widen_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

func TestShapes(t *testing.T) {
	for _, tc := range []struct {
		name      string
		temporary bool
		want      string
	}{
		{"passwd", false, "passwd"},
		{"python3.11", false, "python3.11"},
		{"libssl.so.3", false, "libssl.so.3"},
		{"node_modules", false, "node_modules"},
		{"x86_64-linux-gnu", false, "x86_64-linux-gnu"},
		{"utf8mb4", false, "utf8mb4"},
		{"sha256sum", false, "sha256sum"},
		{"sha256sum", true, "sha256sum"},
		{"12345", false, "*"},
		{"7", false, "*"},
		{"20240101", false, "*"},
		{"app-2024-01-02.log", false, "app-*.log"},
		{"2024-01-02", false, "*"},
		{"2024-01", false, "*"},
		{"dump_2024_01_02_03_04_05.sql.gz", false, "dump_*.sql.gz"},
		{"2026-11-02T08_01_02_003Z-debug-0.log", false, "*-debug-0.log"},
		{"a-20240102T030405Z.tar", false, "a-*.tar"},
		{"2024-01-02.log.1", false, "*.log.1"},
		{"v2024-1", false, "v2024-1"},
		{"report-20240102.csv", false, "report-*.csv"},
		{"access.log.1", false, "access.log.*"},
		{"access.log.12.gz", false, "access.log.*.gz"},
		{"jobs-12.log", false, "jobs-*.log"},
		{"worker.3.log", false, "worker.*.log"},
		{"worker3.log", false, "worker3.log"},
		{"jobs-12.sh", false, "jobs-12.sh"},
		{"1.log", false, "1.log"},
		{"error.log-20240101", false, "error.log-*"},
		{"access.log", false, "access.log"},
		{"f47ac10b-58cc-4372-a567-0e02b2c3d479", false, "*"},
		{"job-f47ac10b-58cc-4372-a567-0e02b2c3d479.lock", false, "job-*.lock"},
		{"a1b2c3d4e5f6", false, "*"},
		{"deadbeef", false, "deadbeef"},
		{"000000010000000000000001", false, "*"},
		{"tmpk3j2h4l_", false, "tmp*"},
		{"tmp.Aq3xPpL0sV", false, "tmp.*"},
		{"template", false, "template"},
		{"temperature", false, "temperature"},
		{"sedKk2sPo", false, "sed*"},
		{"sediment", false, "sediment"},
		{"npm-aB3xQ9", true, "npm-*"},
		{"README", true, "README"},
		{"MyFileName", true, "MyFileName"},
		{"core1234", true, "core*"},
		{"hsperfdata_root", true, "hsperfdata_root"},
		// Python tries with such a file whether a folder can be written.
		{"6ma3756n", true, "*"},
		{"_vepwebf", true, "*"},
		{"6ma3756n", false, "6ma3756n"},
		{"app_data", true, "app_data"},
		{"reports7", true, "reports7"},
		{"sessions", true, "sessions"},
		// What programs put before what is made by chance.
		{"php8yen1d", true, "php*"},
		{"phpNzhlqp", true, "php*"},
		{"phpNzhlqp", false, "phpNzhlqp"},
		{"phpmyadmin", true, "phpmyadmin"},
		{"phpcache", true, "phpcache"},
		{"ccXk2s9P.s", true, "cc*.s"},
		{"pymp-zhjxebvl", true, "pymp-*"},
		{"wgunicorn-q5h39kyn", true, "wgunicorn-*"},
		{"pip-unpack-a7_h3k0c", true, "pip-unpack-*"},
		{"pip-packages", true, "pip-packages"},
		{"pip-unpack-a7_h3k0c", false, "pip-unpack-a7_h3k0c"},
		{"30-0448.log", false, "*.log"},
		{"1-1764465600.000000047.flb", false, "*.flb"},
		{"v1-20240102.csv", false, "v1-*.csv"},
		// Messages, sessions, and what mkstemp puts behind a name.
		{"1vPabc-0001Xy-0A-H", false, "*-H"},
		{"1vPabc-0000000Xyz1-0Ab9", false, "*"},
		{"system-config-ui", false, "system-config-ui"},
		{"1vPabc-0001Xy-0Abc", false, "1vPabc-0001Xy-0Abc"},
		{"1764465600.M5P47V0I1.mail,S=812:2,S", false, "*"},
		{"1764465600.conf", false, "*.conf"},
		{"1764465600.v2.conf", false, "*.v2.conf"},
		{"sess_0g8i2k3lq5t1u7rj6s8tda4e2b", false, "sess_*"},
		{"4bXyZ1kQ2Rz1abc", false, "*"},
		{"HttpClient4Impl.java", false, "HttpClient4Impl.java"},
		{"internationalization2", false, "internationalization2"},
		{".index.html.aB3dE9", false, ".index.html.*"},
		{"tmp_objdir-incoming-aB3dE9", false, "tmp_objdir-incoming-*"},
		{"temp-47.rdb", false, "temp-*.rdb"},
		{"temp-rewriteaof-47.aof", false, "temp-rewriteaof-*.aof"},
		{"tmp_settings.json", false, "tmp_*.json"},
		{"core.47", false, "core.*"},
		{"core.js", false, "core.js"},
		{"core.min.js", false, "core.min.js"},
		{".nfs0000000000a1b2c30000001f", false, ".nfs*"},
		{"hs_err_pid47.log", false, "hs_err_pid*.log"},
		{"backup-Mon.sql", false, "backup-*.sql"},
		{"com.sun.conf", false, "com.sun.conf"},
		{"sun.conf", false, "sun.conf"},
		{"app.2026-11-30.0.log", false, "app.*.log"},
		{"app.log.2026-11-30_14-05", false, "app.log.*"},
		{"app.log.2026-11-30T14-05-09.123.gz", false, "app.log.*.gz"},
		{"Container8Fq2Lz0.php", false, "Container*.php"},
		{"com.example.MyBean", false, "com.example.MyBean"},
		{"app.sha256", false, "app.sha256"},
		{"aB3dE9", false, "aB3dE9"},
		// Clients and containers have other addresses tomorrow.
		{"172.18.0.6", false, "*"},
		{"log.172.18.0.6.old", false, "log.*.old"},
		{"10.11.19.300", false, "10.11.19.300"},
		{"1.2.3.4", false, "1.2.3.4"},
		{"172.18.0.6.1", false, "172.18.0.6.1"},
		// What ln -sf makes before it renames.
		{"CuGGkEvU", false, "Cu*"},
		{"Customer", false, "Customer"},
		{"a*b*c", false, "a*c"},
		{"*", false, "*"},
		{"", false, ""},
	} {
		if got := widen.Shape(tc.name, tc.temporary); got != tc.want {
			t.Errorf("%s (temporary %v): %s, want %s", tc.name, tc.temporary, got, tc.want)
		}
	}
	for name, want := range map[string]string{"15": "15", "3.11": "3.11", "20240101": "*", "release-20240101120000": "release-*", "a1b2c3d4": "a1b2c3d4", "2024-01-02": "*", "2024-01": "2024-01", "app-2024-01-02": "app-*", "a1b2c3d4e5f6a7": "*", "tmpk3j2h4l_": "tmpk3j2h4l_"} {
		if got := widen.ShapeProgram(name); got != want {
			t.Errorf("folder of a program %s: %s, want %s", name, got, want)
		}
	}
}

func TestDomains(t *testing.T) {
	many := func(n int, format string) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(format, fmt.Sprintf("h%c%c", 'a'+i/26, 'a'+i%26)))
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		names []string
		want  string // of the first; empty: as it is
	}{
		{"few", many(16, "%s.example.com"), ""},
		{"many", many(17, "%s.example.com"), "*.example.com"},
		{"many in the middle", many(17, "api.%s.example.com"), "*.example.com"},
		{"chance", []string{"a1b2c3d4.x.example.com", "b1b2c3d4.x.example.com", "c1b2c3d4.x.example.com", "d1b2c3d4.x.example.com", "e1b2c3d4.x.example.com"}, "*.x.example.com"},
		{"different owners", many(40, "%s.com"), ""},
		{"different owners below a public suffix", many(40, "%s.github.io"), ""},
		{"customers of a cloud", many(40, "%s.eu-west-1.rds.amazonaws.com"), ""},
		{"hosts of a network", many(17, "%s.eu-west-1.compute.internal"), "*.eu-west-1.compute.internal"},
		{"names without a domain", many(40, "%s"), ""},
		{"reverse", []string{"7.0.0.10.in-addr.arpa"}, "*.in-addr.arpa"},
	} {
		got := widen.Domains(tc.names)[tc.names[0]]
		if want := tc.want; got != want && !(want == "" && got == tc.names[0]) {
			t.Errorf("%s: %s, want %s", tc.name, got, want)
		}
	}
	for pattern, want := range map[string]bool{"*.com": true, "*.amazonaws.com": true, "*.eu-west-1.elb.amazonaws.com": true, "*.example.com": false, "*.in-addr.arpa": false, "example.com": false} {
		if got := widen.Wide(pattern); got != want {
			t.Errorf("%s is wide: %v, want %v", pattern, got, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	list := func(n int, format string) (out []netip.Addr) {
		for i := range n {
			out = append(out, netip.MustParseAddr(fmt.Sprintf(format, i+1)))
		}
		return out
	}
	for _, tc := range []struct {
		name      string
		addresses []netip.Addr
		callers   bool
		want      string
	}{
		{"three", list(3, "10.1.2.%d"), false, "10.1.2.1/32"},
		{"four", list(4, "10.1.2.%d"), false, "10.1.2.0/24"},
		{"shared address space", list(4, "100.64.2.%d"), false, "100.64.2.0/24"},
		{"private IPv6", list(4, "fd00:1::%d"), false, "fd00:1::/64"},
		{"public", list(200, "52.1.2.%d"), false, "52.1.2.1/32"},
		{"few public callers", list(8, "52.1.2.%d"), true, "52.1.2.1/32"},
		{"callers of the internet", list(9, "52.1.2.%d"), true, "0.0.0.0/0"},
		{"callers of many subnets", list(33, "10.1.%d.1"), true, "10.0.0.0/8"},
	} {
		f := widen.Networks
		if tc.callers {
			f = widen.Callers
		}
		if got := f(tc.addresses)[tc.addresses[0]].String(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestNumbersWithinNames(t *testing.T) {
	for name, want := range map[string]string{
		"invoice-07.json": "invoice-*.json", "invoice_7.json": "invoice_*.json", "worker3.sock": "worker*.sock", "worker12": "worker*", "shard-3-of-8.bin": "shard-3-of-*.bin", "shard-3-x.bin": "",
		"app-2.tar.gz": "app-*.tar.gz", "part-1_done.csv": "part-*_done.csv", "big-1.sorted": "big-*.sorted", "report (3).pdf": "report (*).pdf",
		// Versions, libraries, hashes, words, and what would stand for anything.
		"libfoo.so.1": "", "libfoo-2.so": "", "python3.11": "", "python3": "python*", "v2": "", "app-v2.json": "", "schema-1.2.json": "", "1.2.3": "", "a1b2": "", "a1b2.json": "",
		"sha256": "", "sha256.txt": "", "utf8mb4": "", "x3.json": "", "7.json": "", "7-of-x.json": "", "file3a": "", "plain.json": "", "song.mp3": "", "": "", "12": "", "tmp*-1": "",
	} {
		if got := widen.Numbered(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestKinds(t *testing.T) {
	for name, want := range map[string]string{
		"export-ann-*.csv": "export-*.csv", "dump_shop_*.sql.gz": "dump_*.sql.gz", "daily-site-a-*": "daily-site-*",
		// What changes alone, ends otherwise, begins with nearly nothing, or changes twice.
		"export-*.csv": "", "export-ann.csv": "", "export-ann.*": "", "x-ann-*.csv": "", "2-a-ann-*.csv": "", "*-ann-*.csv": "", "export-ann-*-*.csv": "", "export--*.csv": "", "export-ann_*.csv": "", "": "", "*": "",
	} {
		if got := widen.Kind(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestNamesBeforeARename(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"passwd.47", "passwd", "passwd.*"},
		{"state.json.47.1z14g", "state.json", "state.json.*"},
		{".a.html.abCDef", "a.html", ".a.html.*"},
		{"a.html.tmp-47", "a.html", "a.html.*"},
		{"app.confKk2sPo", "app.conf", "app.conf*"},
		{"sudoers47", "su", ""}, {"suKk2sPo", "su", ""}, {"sudoersK2", "sudo", ""},
		// Always the same, of another file, of one whose own name changes, or of none.
		{"state.json.new", "state.json", ""}, {"state.json~", "state.json", ""}, {"state.json", "state.json", ""},
		{"xstate.json.47", "state.json", ""}, {"other.47", "state.json", ""}, {"dump-20240101.sql.47", "dump-20240101.sql", ""}, {"a*.47", "a*", ""}, {"47", "", ""},
	} {
		if got := widen.Written(tc.name, tc.file); got != tc.want {
			t.Errorf("%s before it is %s: %q, want %q", tc.name, tc.file, got, tc.want)
		}
	}
}

// FuzzShape: a shape stands for its name, is a name of a pattern, and is its own
// shape.
func FuzzShape(f *testing.F) {
	for _, s := range []string{"access.log.1", "tmpk3j2h4l_", "a1b2c3d4e5f6", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "x*y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
			return
		}
		for _, shape := range []string{widen.Shape(name, true), widen.Shape(name, false), widen.ShapeProgram(name)} {
			p := profile.Pattern("/" + shape)
			if err := p.Check(); err != nil && shape != "**" {
				t.Fatalf("%q: %v", name, err)
			}
			if !p.Match("/" + name) {
				t.Fatalf("%q does not stand for %q", shape, name)
			}
		}
		if s := widen.Shape(name, false); widen.Shape(s, false) != s {
			t.Fatalf("the shape of %q is %q, and of that %q", name, s, widen.Shape(s, false))
		}
		if n := widen.Numbered(name); n != "" {
			if p := profile.Pattern("/" + n); p.Check() != nil || !p.Match("/"+name) || widen.AlikeNumbered(n) != widen.Alike(name) {
				t.Fatalf("%q is of %q, alike %q, and itself %q", name, n, widen.AlikeNumbered(n), widen.Alike(name))
			}
		}
		if a := profile.Pattern("/" + widen.Alike(name)); !a.Match("/"+name) && !strings.ContainsRune(name, '*') {
			t.Fatalf("%q does not stand for %q", a, name)
		}
	})
}

func TestLogsThatAreRotated(t *testing.T) {
	for path, want := range map[string]string{
		"/var/log/app/a.log":        "/var/log/app/a.log*",
		"/var/log/app/a.log.*":      "/var/log/app/a.log*",
		"/var/log/app/a.log-*":      "/var/log/app/a.log*",
		"/var/log/app/a.log.*.gz":   "/var/log/app/a.log*",
		"/var/log/syslog":           "/var/log/syslog*",
		"/var/log/syslog.2.gz":      "/var/log/syslog*",
		"/var/log/messages-*":       "/var/log/messages*",
		"/var/log/mail.err.1":       "/var/log/mail.err*",
		"/app/logs/access_log":      "/app/logs/access_log*",
		"/app/logs/queue.7.xz":      "/app/logs/queue*",
		"/app/data/queue.7.xz":      "",
		"/app/data/access_log":      "",
		"/var/log/app/*.gz":         "",
		"/var/log/app/.1":           "",
		"/var/log/app/x.1.sh":       "",
		"/var/log/app/python3.1234": "",
		"/etc/log/syslog":           "",
		"/var/log/app/a.log*":       "",
		"/var/log/app/a-*.log":      "",
		"/var/log/app/a-*.log.1":    "",
		"/var/log/app/a.log.sh":     "",
		"/var/log/app/a.log.*.sh":   "",
		"/var/log/app/.log":         "",
		"/var/log/app/*.log":        "",
		"/var/log/app/catalog":      "",
		"/var/log/app.log/x":        "",
		"/etc/a.log":                "",
		"/etc/cron.d/a.log":         "",
		"/usr/local/bin/a.log":      "",
		"/home/u/.ssh/a.log":        "",
		"/var/spool/cron/a.log":     "",
		"/a.log":                    "",
		"/app/node_modules/x/a.log": "/app/node_modules/x/a.log*",
		"/**":                       "",
		"":                          "",
	} {
		if got := widen.Rotating(path); got != want && !(want == "" && got == path) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	for path, want := range map[string]widen.Place{
		"/etc": {}, "/etc/nginx/conf.d": {}, "/usr/bin": {}, "/": {}, "/var/lib": {}, "/home/u": {}, "/home/u/.ssh": {}, "/data/.ssh/x": {}, "/var/spool/cron/crontabs": {},
		"/tmp/x":            {Temporary: true, Alike: 2, Total: 4},
		"/tmp/*":            {Temporary: true, Alike: 2, Total: 4},
		"/tmp/node-*":       {Temporary: true, Whole: true},
		"/dev/shm/x*/y":     {Temporary: true, Whole: true},
		"/data/node-*":      {Alike: 8, Total: 24, Numbered: 3},
		"/app":              {Alike: 8, Total: 24, Numbered: 3},
		"/app/node_modules": {Alike: 8, Total: 8, Tree: true},
		"/usr/local/lib/python3.11/site-packages":  {Alike: 8, Total: 8, Tree: true},
		"/usr/share/x/build":                       {},
		"/usr/src/app":                             {Alike: 8, Total: 24, Numbered: 3},
		"/var/lib/mysql":                           {Whole: true},
		"/app/__pycache__":                         {Whole: true},
		"/var/lib/mysql-files":                     {Alike: 8, Total: 24, Numbered: 3},
		"/usr/local/lib/python3.11/site-packages/": {Alike: 8, Total: 8, Tree: true},
	} {
		if diff := cmp.Diff(widen.At(profile.Pattern(strings.TrimSuffix(path, "/")).Names()), want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", path, diff)
		}
	}
}
