package secret

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

func pemOf(t *testing.T, kind string, b []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
}

// Keys are made here: whether one is whole is told by what is in it.
func TestKeyState(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, ecErr := x509.MarshalECPrivateKey(ecKey)
	p8, p8Err := x509.MarshalPKCS8PrivateKey(edKey)
	pkcs1 := pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil)
	open, err := ssh.MarshalPrivateKey(edKey, "")
	if err != nil {
		t.Fatal(err)
	}
	closed, err := ssh.MarshalPrivateKeyWithPassphrase(edKey, "", []byte("phrase"))
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Replace(pkcs1, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n", 1)
	lines := strings.SplitAfter(pkcs1, "\n")
	for _, tc := range []struct {
		name, text string
		want       inventory.KeyState
	}{
		{"RSA", pkcs1, inventory.KeyWhole},
		{"EC", pemOf(t, "EC PRIVATE KEY", ec, ecErr), inventory.KeyWhole},
		{"PKCS #8", pemOf(t, "PRIVATE KEY", p8, p8Err), inventory.KeyWhole},
		{"in JSON", strings.ReplaceAll(pkcs1, "\n", `\n`), inventory.KeyWhole},
		{"indented", "    " + strings.ReplaceAll(pkcs1, "\n", "\n    "), inventory.KeyWhole},
		{"in quotes, line by line", `"` + strings.ReplaceAll(strings.TrimSpace(pkcs1), "\n", "\\n\" +\n\"") + `"`, inventory.KeyWhole},
		{"OpenSSH", string(pem.EncodeToMemory(open)), inventory.KeyWhole},
		{"OpenSSH with a passphrase", string(pem.EncodeToMemory(closed)), inventory.KeyEncrypted},
		{"encrypted as OpenSSL did it", old, inventory.KeyEncrypted},
		{"encrypted PKCS #8", pemOf(t, "ENCRYPTED PRIVATE KEY", p8, p8Err), inventory.KeyEncrypted},
		{"a line missing", strings.Join(append(lines[:3:3], lines[4:]...), ""), inventory.KeyIncomplete},
		{"shortened", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA...\n-----END RSA PRIVATE KEY-----", inventory.KeyIncomplete},
		{"words alone", `"-----BEGIN PRIVATE KEY-----" + body + "-----END PRIVATE KEY-----"`, inventory.KeyIncomplete},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := keyState(tc.text); got != tc.want {
				t.Errorf("keyState = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSeverity(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		s     inventory.Secret
		want  finding.Severity
		title string
	}{
		{"pair", inventory.Secret{Rule: ruleAWSSecret}, finding.Critical, "AWS secret access key"},
		{"id", inventory.Secret{Rule: "aws-access-token"}, finding.Medium, "AWS access token"},
		{"known token", inventory.Secret{Rule: "github-pat"}, finding.High, "GitHub personal access token"},
		{"password", inventory.Secret{Rule: rulePassword}, finding.High, "Password"},
		{"whole key", inventory.Secret{Rule: "private-key", Key: inventory.KeyWhole}, finding.High, "Private key"},
		{"encrypted key", inventory.Secret{Rule: "private-key", Key: inventory.KeyEncrypted}, finding.Medium, "Private key"},
		{"no key", inventory.Secret{Rule: "private-key", Key: inventory.KeyIncomplete, Doubt: doubtNoKey}, finding.Negligible, "Private key"},
		{"by its disorder", inventory.Secret{Rule: "generic-api-key"}, finding.Medium, "Generic API key"},
		{"in a test", inventory.Secret{Rule: "github-pat", Doubt: doubtTest}, finding.Low, "GitHub personal access token"},
		{"web token", inventory.Secret{Rule: "jwt", Expires: now.AddDate(0, 0, 1)}, finding.Medium, "JSON web token"},
		{"web token that has ended", inventory.Secret{Rule: "jwt", Expires: now.AddDate(0, 0, -1)}, finding.Low, "JSON web token"},
		{"public half", inventory.Secret{Rule: "adobe-client-id"}, finding.Low, "Adobe client id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := Finding(tc.s, now)
			if f.Severity != tc.want || f.Title != tc.title || f.Remedy == "" {
				t.Errorf("got %v, %q, %q; want %v, %q and a remedy", f.Severity, f.Title, f.Remedy, tc.want, tc.title)
			}
		})
	}
}
