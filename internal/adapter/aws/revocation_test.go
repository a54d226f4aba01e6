package aws_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func checkFault(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || fault.Of(err) != kind || kind == fault.Unknown || fault.Remedy(err) == "" || !contains(err.Error(), words) {
		t.Errorf("error %v of kind %v with remedy %q, want %v and %q", err, fault.Of(err), fault.Remedy(err), kind, words)
	}
}

// certificate makes a certificate that issuer signed; nil for its own root.
func certificate(t *testing.T, name string, issuer *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	k := elliptical(t, elliptic.P384())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	if issuer == nil {
		issuer, by = template, k
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, k.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

func TestRevoked(t *testing.T) {
	root, k := certificate(t, "root", nil, nil)
	leaf, _ := certificate(t, "leaf", root, k)
	tbs := func(c *x509.Certificate) string { return fmt.Sprintf("%x", sha512.Sum384(c.RawTBSCertificate)) }
	const profile, job = "arn:aws:signer:eu-west-1:111122223333:/signing-profiles/shop/AbCdEf1234", "arn:aws:signer:eu-west-1:111122223333:/signing-jobs/1"
	v := aws.Revocable{Profile: profile, Job: job, Chain: []*x509.Certificate{leaf, root}, At: time.Date(2026, 6, 1, 12, 0, 0, 0, time.FixedZone("", 7200))}
	var asked url.Values
	status, answer, refusal := http.StatusOK, `{"revokedEntities":[]}`, "AccessDeniedException"
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		if r.URL.Path != "/revocations" || !contains(r.Header.Get("Authorization"), "/eu-west-1/signer/") {
			t.Errorf("%s signed by %s", r.URL, r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "application/json")
		if status != http.StatusOK {
			w.Header().Set("X-Amzn-ErrorType", refusal)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, answer)
	}))
	defer h.Close()
	outside(t)
	t.Setenv("AWS_ENDPOINT_URL_SIGNER", h.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")

	r := aws.NewRevocations(logTo(t))
	if got, err := r.Revoked(t.Context(), v); err != nil || len(got) != 0 {
		t.Fatalf("nothing revoked: %v, %v", got, err)
	}
	want := url.Values{"profileVersionArn": {profile}, "jobArn": {job}, "platformId": {"Notation-OCI-SHA384-ECDSA"}, "signatureTimestamp": {"2026-06-01T10:00:00Z"},
		"certificateHashes": {tbs(leaf) + tbs(root), tbs(root) + tbs(root)}}
	if diff := cmp.Diff(asked, want, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("asked, got, want:\n%s", diff)
	}
	answer = `{"revokedEntities":["` + job + `"]}`
	if got, err := r.Revoked(t.Context(), v); err != nil || len(got) != 1 || got[0] != job {
		t.Errorf("revoked job: %v, %v", got, err)
	}
	status, answer = http.StatusForbidden, `{"message":"no"}`
	_, err := r.Revoked(t.Context(), v)
	checkFault(t, err, fault.Denied, "AWS Signer")
	refusal, answer = "ValidationException", `{"message":"invalid job"}`
	status = http.StatusBadRequest
	_, err = r.Revoked(t.Context(), v)
	checkFault(t, err, fault.Invalid, "invalid job")
	if remedy := fault.Remedy(err); !contains(remedy, "AWS Signer") || contains(remedy, "registry") {
		t.Errorf("the remedy is %q", remedy)
	}
	v.Profile = "arn:aws:signer:../x:1:/signing-profiles/shop"
	_, err = r.Revoked(t.Context(), v)
	checkFault(t, err, fault.Invalid, "none of a signature")
}
