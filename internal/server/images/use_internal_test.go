package images

import (
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
)

func TestInUse(t *testing.T) {
	owns := func(files ...string) inventory.Package {
		return inventory.Package{Type: "deb", Name: "p", Files: files, Places: []inventory.Place{{Path: "/var/lib/dpkg/status"}}}
	}
	at := func(kind, name string, places ...string) inventory.Package {
		p := inventory.Package{Type: kind, Name: name}
		for _, place := range places {
			p.Places = append(p.Places, inventory.Place{Path: place})
		}
		return p
	}
	const site = "/usr/local/lib/python3.13/site-packages/"
	const gems = "/usr/local/bundle/"
	for _, tc := range []struct {
		name string
		p    inventory.Package
		used []string
		want bool
	}{
		{"a library that it owns", owns("/usr/lib/x86_64-linux-gnu/libssl.so.3"), []string{"/usr/lib/x86_64-linux-gnu/libssl.so.3"}, true},
		{"another one's", owns("/usr/lib/libssl.so.3"), []string{"/usr/lib/libz.so.1"}, false},
		{"nothing is known", owns("/usr/lib/libssl.so.3"), nil, false},
		{"it owns nothing", owns(), []string{"/usr/bin/sh"}, false},
		{"/usr is merged, the package is older", owns("/lib/x86_64-linux-gnu/libc.so.6"), []string{"/usr/lib/x86_64-linux-gnu/libc.so.6"}, true},
		{"/usr is merged, the kernel tells the old name", owns("/usr/lib/libc.so.6"), []string{"/lib/libc.so.6"}, true},
		{"bin", owns("/bin/bash"), []string{"/usr/bin/bash"}, true},
		{"sbin", owns("/usr/sbin/nginx"), []string{"/sbin/nginx"}, true},
		{"lib64", owns("/lib64/ld-linux-x86-64.so.2"), []string{"/usr/lib64/ld-linux-x86-64.so.2"}, true},
		{"a folder like lib", owns("/library/x"), []string{"/usr/library/x"}, false},
		{"sbin is not bin", owns("/usr/sbin/nginx"), []string{"/usr/bin/nginx"}, false},
		{"a distribution's list is nobody's folder", owns("/usr/bin/a"), []string{"/var/lib/dpkg/info/b.so"}, false},

		{"a module built into a program that runs", at("golang", "golang.org/x/net", "/usr/local/bin/app"), []string{"/usr/local/bin/app"}, true},
		{"in /bin", at("golang", "golang.org/x/net", "/bin/app"), []string{"/usr/bin/app"}, true},
		{"another program", at("golang", "golang.org/x/net", "/usr/local/bin/app"), []string{"/usr/local/bin/app2"}, false},
		{"the second of its places", at("golang", "golang.org/x/net", "/a", "/b"), []string{"/b"}, true},

		{"a jar", at("maven", "log4j-core", "/app/app.jar"), []string{"/app/app.jar"}, true},
		{"a jar in a jar, by the outer one", at("maven", "log4j-core", "/app/app.jar!BOOT-INF/lib/log4j-core.jar"), []string{"/app/app.jar"}, true},
		{"a jar in another jar", at("maven", "log4j-core", "/app/app.jar!BOOT-INF/lib/log4j-core.jar"), []string{"/app/other.jar"}, false},
		{"a file beside the jar", at("maven", "log4j-core", "/app/app.jar!package.json"), []string{"/app/x"}, false},

		{"an addon of Node", at("npm", "bcrypt", "/app/node_modules/bcrypt/package.json"), []string{"/app/node_modules/bcrypt/lib/bcrypt.node"}, true},
		{"one of a nested package", at("npm", "a", "/app/node_modules/a/package.json"), []string{"/app/node_modules/a/node_modules/b/b.node"}, false},
		{"one of a package with a longer name", at("npm", "a", "/app/node_modules/a/package.json"), []string{"/app/node_modules/ab/x.node"}, false},
		{"the application is not what it needs", at("npm", "app", "/app/package.json"), []string{"/app/node_modules/b/b.node"}, false},
		{"a manifest at the root", at("npm", "app", "/package.json"), []string{"/usr/bin/node"}, false},
		{"a lock file shows many", at("npm", "a", "/app/package-lock.json"), []string{"/app/bin/run"}, false},

		{"a module of Python", at("pypi", "numpy", site+"numpy-2.1.0.dist-info/METADATA"), []string{site + "numpy/_core/_multiarray_umath.cpython-313-x86_64-linux-gnu.so"}, true},
		{"its name is written otherwise", at("pypi", "PyYAML-Stubs", site+"PyYAML_Stubs-1.dist-info/METADATA"), []string{site + "pyyaml_stubs/x.so"}, true},
		{"a library that it carries", at("pypi", "pillow", site+"pillow-11.0.0.dist-info/METADATA"), []string{site + "pillow.libs/libjpeg.so"}, true},
		{"a single file", at("pypi", "ujson", site+"ujson-5.dist-info/METADATA"), []string{site + "ujson.cpython-313-x86_64-linux-gnu.so"}, true},
		{"a module by another name, by the distribution's record", inventory.Package{Type: "pypi", Name: "pyyaml",
			Places: []inventory.Place{{Path: site + "PyYAML-6.0.1.dist-info/METADATA"}}, Files: []string{site + "yaml/_yaml.cpython-313-x86_64-linux-gnu.so"}},
			[]string{site + "yaml/_yaml.cpython-313-x86_64-linux-gnu.so"}, true},
		{"another module", at("pypi", "numpy", site+"numpy-2.1.0.dist-info/METADATA"), []string{site + "numpydoc/x.so"}, false},
		{"the same module elsewhere", at("pypi", "numpy", site+"numpy-2.1.0.dist-info/METADATA"), []string{"/opt/numpy/x.so"}, false},
		{"an egg", at("pypi", "lxml", site+"lxml-5.egg-info"), []string{site + "lxml/etree.so"}, true},
		{"an egg in its own folder", at("pypi", "lxml", site+"lxml-5.egg/EGG-INFO/PKG-INFO"), []string{site + "lxml-5.egg/lxml/etree.so"}, true},

		{"a gem", at("gem", "nokogiri", gems+"specifications/nokogiri-1.16.0.gemspec"), []string{gems + "gems/nokogiri-1.16.0/lib/nokogiri/nokogiri.so"}, true},
		{"a compiled part of a gem", at("gem", "bigdecimal", gems+"specifications/bigdecimal-3.1.gemspec"), []string{gems + "extensions/x86_64-linux/3.3.0/bigdecimal-3.1/bigdecimal.so"}, true},
		{"another version of a gem", at("gem", "nokogiri", gems+"specifications/nokogiri-1.16.0.gemspec"), []string{gems + "gems/nokogiri-1.15.0/lib/nokogiri.so"}, false},

		{"a library of .NET", at("nuget", "Newtonsoft.Json", "/app/shop.deps.json"), []string{"/app/Newtonsoft.Json.dll"}, true},
		{"another library of .NET", at("nuget", "Newtonsoft.Json", "/app/shop.deps.json"), []string{"/app/shop.dll"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := newInUse(tc.used).of(&tc.p); got != tc.want {
				t.Errorf("in use: got %v, want %v", got, tc.want)
			}
		})
	}
}
