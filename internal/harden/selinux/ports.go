package selinux

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/profile"
)

// portType is the type of ports in the reference policy.
type portType struct {
	name        string
	first, last uint16
	udp         bool
}

// portTypes are those of services that containers are, or speak to. They are as
// in the policies of Fedora and of Amazon Linux.
var portTypes = []portType{
	{"ftp_port_t", 21, 21, false}, {"ssh_port_t", 22, 22, false}, {"telnetd_port_t", 23, 23, false}, {"smtp_port_t", 25, 25, false},
	{"dns_port_t", 53, 53, false}, {"dns_port_t", 53, 53, true}, {"dns_port_t", 853, 853, false},
	{"http_port_t", 80, 81, false}, {"kerberos_port_t", 88, 88, false}, {"pop_port_t", 110, 110, false}, {"ntp_port_t", 123, 123, true},
	{"snmp_port_t", 161, 162, true}, {"ldap_port_t", 389, 389, false}, {"http_port_t", 443, 443, false}, {"smtp_port_t", 465, 465, false},
	{"http_port_t", 488, 488, false}, {"syslogd_port_t", 514, 514, true}, {"smtp_port_t", 587, 587, false}, {"ldap_port_t", 636, 636, false},
	{"pop_port_t", 993, 993, false}, {"pop_port_t", 995, 995, false}, {"mssql_port_t", 1433, 1434, false},
	{"oracle_port_t", 1521, 1521, false}, {"nfs_port_t", 2049, 2049, false}, {"zookeeper_client_port_t", 2181, 2181, false},
	{"ntop_port_t", 3000, 3001, false}, {"squid_port_t", 3128, 3128, false}, {"ldap_port_t", 3268, 3269, false}, {"mysqld_port_t", 3306, 3306, false},
	{"commplex_main_port_t", 5000, 5000, false}, {"postgresql_port_t", 5432, 5432, false}, {"amqp_port_t", 5671, 5672, false},
	{"redis_port_t", 6379, 6379, false}, {"http_port_t", 8008, 8009, false}, {"http_cache_port_t", 8080, 8080, false},
	{"transproxy_port_t", 8081, 8081, false}, {"http_cache_port_t", 8118, 8118, false}, {"http_cache_port_t", 8123, 8123, false},
	{"http_port_t", 8443, 8443, false}, {"http_port_t", 9000, 9000, false}, {"websm_port_t", 9090, 9090, false}, {"wap_wsp_port_t", 9200, 9207, false},
	{"zope_port_t", 8021, 8021, false}, {"memcache_port_t", 11211, 11211, false}, {"memcache_port_t", 11211, 11211, true},
	{"redis_port_t", 16379, 16379, false}, {"redis_port_t", 26379, 26379, false}, {"mongod_port_t", 27017, 27019, false}, {"mongod_port_t", 28017, 28019, false},
}

// rest are the types of ports that have none of their own.
var rest = []portType{
	{name: "reserved_port_t", first: 1, last: 511}, {name: "hi_reserved_port_t", first: 512, last: 1023},
	{name: "unreserved_port_t", first: 1024, last: 32767}, {name: "ephemeral_port_t", first: 32768, last: 60999},
	{name: "unreserved_port_t", first: 61000, last: 65535},
}

// typesOf returns the types that ports have, sorted.
func typesOf(class string, ports []profile.Ports) (types []string) {
	for _, r := range ports {
		types = append(types, typesIn(class == "udp_socket", r)...)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

func typesIn(udp bool, r profile.Ports) (types []string) {
	var own []portType
	for _, t := range portTypes {
		if t.udp == udp && t.first <= r.Last && r.First <= t.last {
			own = append(own, t)
			types = append(types, t.name)
		}
	}
	slices.SortFunc(own, func(a, b portType) int { return cmp.Compare(a.first, b.first) })
	for _, t := range rest {
		first, last := max(t.first, r.First, 1), min(t.last, r.Last)
		if first <= last && !coveredBy(own, first, last) {
			types = append(types, t.name)
		}
	}
	return types
}

// coveredBy reports whether every port has a type of its own.
func coveredBy(own []portType, first, last uint16) bool {
	next := int(first)
	for _, t := range own {
		if int(t.first) > next {
			break
		}
		next = max(next, int(t.last)+1)
	}
	return next > int(last)
}
