package aws

import (
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	for _, tc := range []struct {
		host string
		want registry
		ok   bool
	}{
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com", registry{region: "eu-west-1"}, true},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", registry{region: "eu-west-1"}, true},
		{"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", registry{region: "us-gov-west-1", fips: true}, true},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", registry{region: "cn-north-1"}, true},
		{"123456789012.dkr-ecr.eu-west-1.on.aws", registry{region: "eu-west-1", dualStack: true}, true},
		{"123456789012.dkr-ecr-fips.us-east-1.on.aws", registry{region: "us-east-1", fips: true, dualStack: true}, true},
		{"123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", registry{region: "cn-north-1", dualStack: true}, true},
		{"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", registry{region: "eusc-de-east-1"}, true},
		{"123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", registry{region: "us-iso-east-1"}, true},
		{"public.ecr.aws", registry{region: "us-east-1", public: true}, true},
		{"ecr-public.aws.com", registry{region: "us-east-1", public: true, dualStack: true}, true},

		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com.example", registry{}, false},
		{"123456789012.dkr.ecr.eu-west-1.example", registry{}, false},
		{"123456789012.dkr.ecr.evil.example.amazonaws.com", registry{}, false},
		{"123456789012.dkr.ecr..amazonaws.com", registry{}, false},
		{"123456789012.dkr.ecr.-.amazonaws.com", registry{}, false},
		{"123456789012.dkr.ecr.eu-west-1.on.aws", registry{}, false},
		{"123456789012.dkr-ecr.eu-west-1.amazonaws.com", registry{}, false},
		{"123456789012.dkr-ecr.us-iso-east-1.", registry{}, false},
		{"12345678901.dkr.ecr.eu-west-1.amazonaws.com", registry{}, false},
		{"12345678901a.dkr.ecr.eu-west-1.amazonaws.com", registry{}, false},
		{"x.123456789012.dkr.ecr.eu-west-1.amazonaws.com", registry{}, false},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com:5000", registry{}, false},
		{"api.ecr.eu-west-1.amazonaws.com", registry{}, false},
		{"xpublic.ecr.aws", registry{}, false},
		{"", registry{}, false},
	} {
		t.Run(tc.host, func(t *testing.T) {
			got, ok := parseHost(tc.host)
			if got != tc.want || ok != tc.ok {
				t.Errorf("parseHost() = %+v, %v, want %+v, %v", got, ok, tc.want, tc.ok)
			}
		})
	}
}

// FuzzParseHost wants of what is accepted that it ends in a domain of AWS.
func FuzzParseHost(f *testing.F) {
	f.Add("123456789012.dkr.ecr.eu-west-1.amazonaws.com")
	f.Add("123456789012.dkr-ecr-fips.us-east-1.on.aws:443")
	f.Add("public.ecr.aws")
	f.Fuzz(func(t *testing.T, host string) {
		r, ok := parseHost(host)
		if !ok {
			return
		}
		name := strings.TrimSuffix(host, ":443")
		known := r.public
		for _, p := range partitions() {
			known = known || strings.HasSuffix(name, "."+p.domain) || p.dualStack != "" && strings.HasSuffix(name, "."+p.dualStack)
		}
		if !known || !isRegion(r.region) {
			t.Fatalf("%q is taken for %+v", host, r)
		}
	})
}
