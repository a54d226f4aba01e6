package widen

import (
	"slices"
	"strings"
)

// databases are names that, all in one folder, say that it is a database's, wherever
// that is. What else is in it is the database's own: segments with numbers of
// every form, and folders that are called as users call their tables and streams.
var databases = [][]string{
	{"PG_VERSION", "base"},          // PostgreSQL
	{"ibdata1"},                     // MySQL, MariaDB
	{"WiredTiger"},                  // MongoDB
	{"snap", "wal"},                 // etcd
	{"chunks_head", "wal"},          // Prometheus
	{"data", "meta", "wal"},         // InfluxDB 1
	{"engine", "influxd.bolt"},      // InfluxDB 2
	{"commitlog", "saved_caches"},   // Cassandra
	{"indices", "node.lock"},        // Elasticsearch, OpenSearch
	{"write.lock"},                  // Lucene: Solr and others
	{"CURRENT", "LOCK"},             // LevelDB, RocksDB
	{".minio.sys"},                  // MinIO
	{"log-start-offset-checkpoint"}, // Kafka
	{"cur", "new", "tmp"},           // a maildir
	{"HEAD", "objects", "refs"},     // a bare repository of git
	{"index", "keys", "snapshots"},  // restic
}

// Sign reports whether a name may tell that its folder is a database's.
func Sign(name string) bool {
	return slices.ContainsFunc(databases, func(names []string) bool { return slices.Contains(names, name) })
}

// Database reports whether the signs that a folder has say that it is a database's. It
// never is where every name counts, nor is a folder for everybody's temporary files.
func Database(folder []string, signs map[string]bool) bool {
	if p := At(folder); p.Total == 0 || p.Temporary && slices.Contains(temporary, "/"+strings.Join(folder, "/")) {
		return false
	}
	return slices.ContainsFunc(databases, func(names []string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return !signs[n] })
	})
}
