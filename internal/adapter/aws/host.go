package aws

import (
	"net"
	"strings"
)

// registry is a registry of Amazon ECR, as its host tells.
type registry struct {
	region    string
	fips      bool // the endpoint is validated by FIPS 140
	dualStack bool // and can be reached over IPv6
	public    bool
}

// Hosts of the public gallery, by IPv4 alone and by both.
const (
	publicHost          = "public.ecr.aws"
	publicDualStackHost = "ecr-public.aws.com"
	publicRegion        = "us-east-1" // where its tokens are given, whoever asks
)

// accountDigits is the length of an AWS account's number.
const accountDigits = 12

// partitions are the domains below which private registries are, of all
// partitions of AWS; on the right those that speak IPv6 too.
func partitions() []struct{ domain, dualStack string } {
	return []struct{ domain, dualStack string }{
		{"amazonaws.com", "on.aws"},
		{"amazonaws.com.cn", "on.amazonwebservices.com.cn"},
		{"amazonaws.eu", "on.amazonwebservices.eu"},
		{"c2s.ic.gov", ""},
		{"sc2s.sgov.gov", ""},
		{"cloud.adc-e.uk", ""},
		{"csp.hci.ic.gov", ""},
	}
}

// parseHost says which registry of ECR a host is; ok is false for any other
// host, however alike: what follows from it is that a token is sent there.
//
//	123456789012.dkr.ecr.eu-west-1.amazonaws.com
//	123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com
//	123456789012.dkr-ecr.eu-west-1.on.aws
func parseHost(host string) (registry, bool) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if port != "443" {
			return registry{}, false
		}
		host = name
	}
	switch host {
	case publicHost:
		return registry{region: publicRegion, public: true}, true
	case publicDualStackHost:
		return registry{region: publicRegion, public: true, dualStack: true}, true
	}
	account, rest, _ := strings.Cut(host, ".")
	if len(account) != accountDigits || strings.Trim(account, "0123456789") != "" {
		return registry{}, false
	}
	for _, form := range []struct {
		prefix          string
		fips, dualStack bool
	}{
		{"dkr.ecr.", false, false}, {"dkr.ecr-fips.", true, false}, {"dkr-ecr.", false, true}, {"dkr-ecr-fips.", true, true},
	} {
		below, ok := strings.CutPrefix(rest, form.prefix)
		if !ok {
			continue
		}
		region, domain, _ := strings.Cut(below, ".")
		if !isRegion(region) || domain == "" {
			return registry{}, false
		}
		for _, p := range partitions() {
			if !form.dualStack && domain == p.domain || form.dualStack && domain == p.dualStack {
				return registry{region: region, fips: form.fips, dualStack: form.dualStack}, true
			}
		}
	}
	return registry{}, false
}

// isRegion says whether s is written as regions are: eu-west-1.
func isRegion(s string) bool {
	const longest = 32
	return s != "" && len(s) <= longest && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		s[0] != '-' && s[len(s)-1] != '-'
}
