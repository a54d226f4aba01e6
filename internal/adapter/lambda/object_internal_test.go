package lambda

import (
	"net/url"
	"testing"
)

func TestPermittedAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"https://s3.amazonaws.com/b/k":                              true,
		"https://s3.us-west-2.amazonaws.com/b/k?X-Amz-Signature=0":  true,
		"https://b.s3.us-west-2.amazonaws.com/k":                    true,
		"https://a.dotted.bucket.s3.us-west-2.amazonaws.com/k":      true,
		"https://s3-us-west-2.amazonaws.com/b/k":                    true,
		"https://b.s3.dualstack.eu-west-1.amazonaws.com/k":          true,
		"https://b.s3-fips.us-gov-west-1.amazonaws.com/k":           true,
		"https://s3.cn-north-1.amazonaws.com.cn/b/k":                true,
		"https://s3.us-west-2.amazonaws.com:443/b/k":                true,
		"http://s3.us-west-2.amazonaws.com/b/k":                     false,
		"https://s3.us-west-2.amazonaws.com:8443/b/k":               false,
		"https://s3.us-west-2.amazonaws.com.evil.example/b/k":       false,
		"https://evil.example/s3.us-west-2.amazonaws.com":           false,
		"https://s3.us-west-2.amazonaws.com@evil.example/":          false,
		"https://user@s3.us-west-2.amazonaws.com/b/k":               false,
		"https://evils3.us-west-2.amazonaws.com/b/k":                false,
		"https://abcdefghij.execute-api.us-west-2.amazonaws.com/s3": false,
		"https://s3.us-west-2.elb.amazonaws.com/":                   false,
		"https://s3-a-b-c.us-west-2.elb.amazonaws.com/":             false,
		"https://s3.compute.amazonaws.com/":                         false,
		"https://ec2-198-51-100-1.us-west-2.compute.amazonaws.com/": false,
		"https://s3-evil-host-1.us-west-2.amazonaws.com/":           false,
		"https://169.254.169.254/latest/meta-data":                  false,
		"https://[fd00:ec2::254]/latest/meta-data":                  false,
		"https://localhost/":                                        false,
		"file:///etc/passwd":                                        false,
		"":                                                          false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := (Objects{}).permitted(u); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	emulated := Objects{Endpoint: "http://127.0.0.1:4566"}
	for address, want := range map[string]bool{"http://127.0.0.1:4566/b/k": true, "http://b.127.0.0.1:4566/k": true, "http://127.0.0.1:4567/b/k": false, "https://127.0.0.1:4566/b/k": false} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := emulated.permitted(u); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}
