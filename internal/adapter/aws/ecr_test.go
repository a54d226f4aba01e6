package aws_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	private = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	secret  = "very-secret-token"
)

// service is ECR as far as it gives tokens.
type service struct {
	*httptest.Server

	mu     sync.Mutex
	asked  []string // the operation and the credential's scope of each request
	answer func(w http.ResponseWriter, n int)
}

func newService(t *testing.T, answer func(w http.ResponseWriter, n int)) *service {
	t.Helper()
	s := &service{answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	outside(t)
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	return s
}

// outside keeps whatever this machine has of AWS out of a test.
func outside(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT",
	} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// ServeHTTP notes what is asked and answers.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	if parts := strings.Split(scope, "/"); len(parts) == 5 {
		scope = parts[2] + " " + parts[3]
	}
	s.asked = append(s.asked, r.Header.Get("X-Amz-Target")+" "+scope)
	n := len(s.asked)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	s.answer(w, n)
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// gives answers with the nth token, good until ends.
func gives(ends time.Time) func(http.ResponseWriter, int) {
	return func(w http.ResponseWriter, n int) {
		token := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "AWS:%s-%d", secret, n))
		_, _ = fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d,"proxyEndpoint":"https://`+private+`"}]}`, token, ends.Unix())
	}
}

func keychain(t *testing.T) *aws.ECR {
	t.Helper()
	return aws.NewECR(slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func TestPrivateRegistry(t *testing.T) {
	s := newService(t, gives(time.Now().Add(12*time.Hour)))
	user, password, ok, err := keychain(t).Credentials(t.Context(), private)
	if user != "AWS" || password != secret+"-1" || !ok || err != nil {
		t.Errorf("Credentials() = %q, %q, %v, %v", user, password, ok, err)
	}
	if want := "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken eu-west-1 ecr"; s.asked[0] != want {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
}

func TestPublicGallery(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, _ int) {
		_, _ = fmt.Fprintf(w, `{"authorizationData":{"authorizationToken":%q,"expiresAt":%d}}`,
			base64.StdEncoding.EncodeToString([]byte("AWS:"+secret)), time.Now().Add(time.Hour).Unix())
	})
	user, password, ok, err := keychain(t).Credentials(t.Context(), "public.ecr.aws")
	if user != "AWS" || password != secret || !ok || err != nil {
		t.Errorf("Credentials() = %q, %q, %v, %v", user, password, ok, err)
	}
	if want := "SpencerFrontendService.GetAuthorizationToken us-east-1 ecr-public"; s.asked[0] != want {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
}

// A token is asked for once for a region, and again shortly before it ends.
func TestTokensAreKept(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	s := newService(t, gives(now.Add(12*time.Hour)))
	e := keychain(t).WithClock(func() time.Time { return now })
	for _, step := range []struct {
		name, host string
		after      time.Duration
		asked      int
	}{
		{"first", private, 0, 1},
		{"again", private, 0, 1},
		{"another account of the region", "210987654321.dkr.ecr.eu-west-1.amazonaws.com", 0, 1},
		{"another region", "123456789012.dkr.ecr.us-east-1.amazonaws.com", 0, 2},
		{"eleven hours later", private, 11 * time.Hour, 2},
		{"shortly before the end", private, 50 * time.Minute, 3},
	} {
		now = now.Add(step.after)
		if _, _, ok, err := e.Credentials(t.Context(), step.host); !ok || err != nil {
			t.Errorf("%s: %v, %v", step.name, ok, err)
		}
		if got := s.count(); got != step.asked {
			t.Errorf("%s: asked %d times, want %d", step.name, got, step.asked)
		}
	}
}

// Ten images of one registry at once ask once.
func TestTokensAreShared(t *testing.T) {
	s := newService(t, gives(time.Now().Add(12*time.Hour)))
	e := keychain(t)
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			if _, _, ok, err := e.Credentials(t.Context(), private); !ok || err != nil {
				t.Errorf("Credentials() = %v, %v", ok, err)
			}
		})
	}
	wait.Wait()
	if got := s.count(); got != 1 {
		t.Errorf("asked %d times, want once", got)
	}
}

func TestRefusals(t *testing.T) {
	says := func(status int, body string) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, _ int) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter, int)
		kind   fault.Kind
		words  string
	}{
		{"not permitted", says(400, `{"__type":"AccessDeniedException","message":"User is not authorized to perform: ecr:GetAuthorizationToken"}`), fault.Denied, "not authorized"},
		{"expired", says(400, `{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}`), fault.Unauthenticated, "expired"},
		{"wrong key", says(400, `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`), fault.Unauthenticated, "invalid"},
		{"nonsense", says(200, `{"authorizationData":[{"authorizationToken":"%%%"}]}`), fault.Unavailable, "none that can be used"},
		{"no user in it", says(200, `{"authorizationData":[{"authorizationToken":"`+base64.StdEncoding.EncodeToString([]byte(secret))+`"}]}`), fault.Unavailable, "none that can be used"},
		{"empty", says(200, `{"authorizationData":[]}`), fault.Unavailable, "none that can be used"},
		{"a page", says(404, "<html>"+strings.Repeat("x", 10_000)), fault.Unavailable, "get ECR token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t, tc.answer)
			e := keychain(t)
			_, _, ok, err := e.Credentials(t.Context(), private)
			if ok || fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" {
				t.Errorf("Credentials() = %v, %v (%v, %q), want %v with %q", ok, err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words)
			}
			if strings.Contains(err.Error(), secret) || len(err.Error()) > 1000 {
				t.Errorf("error %q shows a secret or is too long", err)
			}
			before := s.count()
			_, _, _, _ = e.Credentials(t.Context(), private)
			if s.count() != before {
				t.Errorf("a refusal is asked for again at once")
			}
		})
	}
}

// Without credentials the public gallery is asked anonymously, and a private
// registry not at all.
func TestNoCredentials(t *testing.T) {
	outside(t)
	e := keychain(t)
	if _, _, ok, err := e.Credentials(t.Context(), "public.ecr.aws"); ok || err != nil {
		t.Errorf("public: %v, %v, want none and no error", ok, err)
	}
	_, _, ok, err := e.Credentials(t.Context(), private)
	if ok || !fault.Is(err, fault.Unauthenticated) || !strings.Contains(fault.Remedy(err), "role") || strings.Contains(err.Error(), "\n") {
		t.Errorf("private: %v, %v, want it to say how to get credentials", ok, err)
	}
}

// The role of an ECS task, and an instance's metadata that never answers.
func TestWhereCredentialsComeFrom(t *testing.T) {
	t.Run("task role", func(t *testing.T) {
		s := newService(t, gives(time.Now().Add(12*time.Hour)))
		role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}))
		t.Cleanup(role.Close)
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL)
		if _, _, ok, err := keychain(t).Credentials(t.Context(), private); !ok || err != nil || s.count() != 1 {
			t.Errorf("Credentials() = %v, %v", ok, err)
		}
	})
	t.Run("silent metadata", func(t *testing.T) {
		outside(t)
		silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		t.Cleanup(silent.Close)
		t.Setenv("AWS_EC2_METADATA_DISABLED", "")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.URL)
		const patience = 30 * time.Second // two seconds and a pause on a machine that is idle
		began := time.Now()
		_, _, ok, err := keychain(t).Credentials(t.Context(), private)
		if took := time.Since(began); ok || !fault.Is(err, fault.Unauthenticated) || took > patience {
			t.Errorf("Credentials() = %v, %v after %s, want a refusal within %s", ok, err, took, patience)
		}
	})
	t.Run("the scan ends", func(t *testing.T) {
		s := newService(t, gives(time.Now().Add(12*time.Hour)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := keychain(t)
		if _, _, ok, err := e.Credentials(ctx, private); ok || !errors.Is(err, context.Canceled) {
			t.Errorf("Credentials() = %v, %v, want the context's error", ok, err)
		}
		if _, _, ok, err := e.Credentials(t.Context(), private); !ok || err != nil || s.count() != 1 {
			t.Errorf("afterwards: %v, %v", ok, err)
		}
	})
}

func TestOtherRegistries(t *testing.T) {
	s := newService(t, gives(time.Now()))
	for _, host := range []string{"registry.example", "localhost:5000", private + ".example", "", private + ":8080"} {
		if _, _, ok, err := keychain(t).Credentials(t.Context(), host); ok || err != nil {
			t.Errorf("%s: %v, %v, want nothing", host, ok, err)
		}
	}
	if s.count() != 0 {
		t.Errorf("asked %q for others", s.asked)
	}
}
