package lambda

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxObject bounds what a hook's payload has at S3: two templates of 1 MB, and
	// what a change set changes before and after, all of it escaped once more.
	maxObject = 32 << 20
	// objectWithin is how long that may take.
	objectWithin = 10 * time.Second
)

// Objects fetches what CloudFormation keeps at Amazon S3 for a hook, by addresses
// that are signed beforehand.
type Objects struct {
	// Endpoint is the one address beside S3's own that is asked: where AWS is not
	// AWS. Empty: none.
	Endpoint string
	Client   *http.Client // nil: one that goes by the environment's proxy
}

// get fetches an object. Only S3 is asked, by TLS and without being sent
// elsewhere: the address came with an event, and this function can reach more than
// whoever wrote it.
func (o Objects) get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || !o.permitted(u) {
		host := ""
		if u != nil {
			host = u.Host
		}
		return nil, fault.New(fault.Invalid, "it is said to be at %.100q, which is no address of Amazon S3", host).
			With("let only CloudFormation call this function")
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx, cancel := context.WithTimeout(ctx, objectWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "its address at S3 is not understood")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "ask S3: %w", unsigned(err)).
			With("can S3 be reached from the function? in a private network it needs a VPC endpoint (s3)")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fault.New(fault.Unavailable, "S3 answers %s", resp.Status).With("its address is good for some minutes: deploy again")
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxObject+1))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "read from S3: %w", err)
	}
	if len(b) > maxObject {
		return nil, errTooMuch("it has more than %d bytes", maxObject)
	}
	return b, nil
}

// unsigned is an error without the address, whose signature is a secret for some
// minutes.
func unsigned(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return fmt.Errorf("%T", err)
}

// permitted says whether an address is S3's, in any partition, or the one that is
// set.
func (o Objects) permitted(u *url.URL) bool {
	if u.User != nil || u.Opaque != "" {
		return false
	}
	if o.Endpoint != "" {
		if e, err := url.Parse(o.Endpoint); err == nil && e.Host != "" && u.Scheme == e.Scheme &&
			(u.Host == e.Host || strings.HasSuffix(u.Host, "."+e.Host)) {
			return true
		}
	}
	if u.Scheme != "https" || u.Port() != "" && u.Port() != "443" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if net.ParseIP(host) != nil {
		return false
	}
	for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"} {
		if name, ok := strings.CutSuffix(host, suffix); ok {
			return isS3(name)
		}
	}
	return false
}

// isS3 says whether a name below AWS's own is S3's: s3, s3.REGION, s3-REGION,
// s3-fips.REGION, s3.dualstack.REGION, each of them perhaps with a bucket before
// it, whose name may have dots.
func isS3(name string) bool {
	label := strings.Split(name, ".")
	last := label[len(label)-1]
	if last == "s3" {
		return true
	}
	if region, ok := strings.CutPrefix(last, "s3-"); ok && isRegion(region) {
		return true
	}
	if len(label) < 2 || !isRegion(last) {
		return false
	}
	before := label[len(label)-2]
	if before == "dualstack" && len(label) > 2 {
		before = label[len(label)-3]
	}
	return before == "s3" || before == "s3-fips"
}

// isRegion says whether a word can be a region's: us-gov-west-1.
func isRegion(s string) bool {
	digit := len(s) > 0 && '0' <= s[len(s)-1] && s[len(s)-1] <= '9'
	return digit && strings.Count(s, "-") >= 2 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
