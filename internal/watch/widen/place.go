package widen

import (
	"slices"
	"strings"
)

// Place says what may be done in a folder.
type Place struct {
	// Temporary: names there are anybody's; programs there are never widened.
	Temporary bool
	// Alike is up to how many names that begin and end alike stand for themselves,
	// Total up to how many names at all. 0: however many there are, each stands for
	// itself.
	Alike, Total int
	// Numbered is from how many on names that differ in a number alone are one. 0: they
	// are as all others.
	Numbered int
	// Whole: all below it is one thing: a cache, the files of a database.
	Whole bool
	// Tree: when there are many names, all below is one thing.
	Tree bool
}

// Thresholds, in names of one folder.
const (
	alike          = 8  // names such as part-1.dat … part-9.dat
	total          = 24 // names of any form
	alikeTemporary = 2
	totalTemporary = 4
	numbered       = 3 // names such as invoice-1.json, invoice-2.json, invoice-3.json
)

// whole are folders of which nobody would list the files: caches, and what package
// managers, compilers and version control keep for themselves.
var whole = []string{
	"__pycache__", ".cache", "_cacache", ".npm", ".yarn", ".pnpm-store", ".gradle", ".m2", ".ivy2", ".cargo", ".rustup",
	".git", ".pytest_cache", ".mypy_cache", ".next", ".nuxt", "go-build",
	// Of ZooKeeper, NATS, Redis and RabbitMQ, wherever their data are.
	"version-2", "jetstream", "appendonlydir", "mnesia",
}

// trees become one thing when there are many names in them.
var trees = []string{"node_modules", "site-packages", "dist-packages", "vendor", "target", "build", "dist"}

// data are folders of databases: what is in them is theirs alone, and its names are
// numbers of tables and segments.
var data = []string{
	"/var/lib/postgresql", "/var/lib/pgsql", "/var/lib/mysql", "/var/lib/mongodb", "/data/db", "/data/configdb",
	"/var/lib/redis", "/var/lib/cassandra", "/var/lib/clickhouse", "/var/lib/elasticsearch", "/usr/share/elasticsearch/data",
	"/usr/share/opensearch/data", "/var/lib/rabbitmq/mnesia", "/var/lib/influxdb", "/var/lib/influxdb2", "/prometheus", "/var/lib/prometheus",
	"/var/lib/etcd", "/var/lib/consul", "/var/lib/neo4j", "/var/lib/kafka", "/var/lib/zookeeper", "/var/lib/minio", "/etc/letsencrypt/archive",
	"/bitnami/postgresql/data", "/bitnami/mysql/data", "/bitnami/redis/data", "/bitnami/mongodb/data", "/var/cache/nginx",
	"/var/cache/apt", "/var/lib/apt/lists", "/var/lib/dpkg", "/var/cache/debconf", "/var/cache/apk", "/var/cache/yum", "/var/cache/dnf",
}

// temporary are folders for temporary files.
var temporary = []string{"/tmp", "/var/tmp", "/dev/shm", "/usr/tmp"}

// system are folders in which every name counts, at any depth: whoever may write
// anything there owns the container, or the host.
var system = []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/boot", "/dev", "/proc", "/sys", "/var/spool/cron"}

// ordinary are folders below those of system that hold what applications write.
var ordinary = []string{"/usr/src", "/usr/local/tomcat", "/usr/local/apache2/logs", "/usr/share/nginx/html", "/dev/shm", "/usr/tmp"}

// tops are folders whose own names each count, but not what is below them.
var tops = []string{"/", "/var", "/var/lib", "/var/cache", "/var/spool", "/opt", "/srv", "/home", "/root", "/run", "/var/run", "/mnt", "/media"}

// secret are folders within homes in which every name counts.
var secret = []string{".ssh", ".gnupg", ".aws", ".kube", ".docker"}

// At says what may be done with the names in a folder, given as its names from the
// root.
func At(folder []string) Place {
	if len(folder) > 0 && slices.Contains(whole, folder[len(folder)-1]) {
		return Place{Whole: true}
	}
	path := "/" + strings.Join(folder, "/")
	for _, d := range data {
		if path == d {
			return Place{Whole: true}
		}
	}
	for _, name := range folder {
		if slices.Contains(secret, name) {
			return Place{}
		}
	}
	switch {
	case below(path, temporary) && byChance(folder):
		return Place{Whole: true, Temporary: true}
	case below(path, temporary):
		return Place{Temporary: true, Alike: alikeTemporary, Total: totalTemporary}
	case below(path, system) && !below(path, ordinary) && !inTree(folder):
		return Place{}
	case len(folder) > 0 && slices.Contains(trees, folder[len(folder)-1]):
		return Place{Alike: alike, Total: alike, Tree: true}
	case slices.Contains(tops, path):
		return Place{}
	case len(folder) == 2 && folder[0] == "home": // somebody's home
		return Place{}
	}
	return Place{Alike: alike, Total: total, Numbered: numbered}
}

// byChance reports whether a folder lies in one whose name is made anew each time, as
// mkdtemp makes it: what is in such a one is its program's alone. A name that is
// nothing but "*" may be anybody's.
func byChance(folder []string) bool {
	return slices.ContainsFunc(folder, func(n string) bool { return len(n) > 1 && strings.Contains(n, "*") })
}

// Temporary reports whether a path lies in a folder for temporary files.
func Temporary(path string) bool {
	return below(path, temporary) && !slices.Contains(temporary, path)
}

// inTree reports whether a folder lies within one of trees.
func inTree(folder []string) bool {
	return slices.ContainsFunc(folder, func(n string) bool { return n == "node_modules" || n == "site-packages" || n == "dist-packages" })
}

// below reports whether path is one of folders or lies in one.
func below(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool {
		return strings.HasPrefix(path, f) && (len(path) == len(f) || path[len(f)] == '/')
	})
}

// Alike returns what names that belong together have in common, as a pattern: what
// stands before the last "-" and behind the last ".".
func Alike(name string) string {
	if strings.ContainsRune(name, '*') {
		return name
	}
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && i < len(name)-1 {
		stem, ext = name[:i], name[i:]
		if allDigits(ext[1:]) { // a number, and no ending
			return stem + ".*"
		}
	}
	if i := strings.LastIndexByte(stem, '-'); i >= 0 {
		return stem[:i+1] + "*" + ext
	}
	return "*" + ext
}
