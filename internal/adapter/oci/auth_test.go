package oci_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	user     = "deployer"
	password = "hunter2-very-secret"
	identity = "identity-very-secret"
)

// wantsBasic refuses requests without the user's password.
func wantsBasic(w http.ResponseWriter, r *http.Request) bool {
	if u, p, ok := r.BasicAuth(); ok && u == user && p == password {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return true
}

// wantsBearer refuses requests without a token, which it gives for a password or
// an identity token. A token is good for some requests only.
func wantsBearer(h *hub, good int) func(http.ResponseWriter, *http.Request) bool {
	given, left := 0, 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			u, p, _ := r.BasicAuth()
			byPassword := r.Method == http.MethodGet && u == user && p == password && r.URL.Query().Get("scope") == "repository:shop/web:pull"
			byIdentity := r.Method == http.MethodPost && r.PostFormValue("refresh_token") == identity && r.PostFormValue("grant_type") == "refresh_token"
			if !byPassword && !byIdentity {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			given++
			left = good
			_, _ = fmt.Fprintf(w, `{"token":"token-%d","expires_in":60}`, given)
			return true
		}
		if r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", given) && given > 0 && left > 0 {
			left--
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope="repository:shop/web:pull"`, h.host()))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// dockerConfig writes a config.json and has it be the user's.
func dockerConfigFile(t *testing.T, v object) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), asJSON(v), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

// helper puts a credential helper into a PATH of its own.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func inBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestCredentials(t *testing.T) {
	pair := inBase64(user + ":" + password)
	said := fmt.Sprintf(`read server; echo '{"ServerURL":"'$server'","Username":"%s","Secret":"%s"}'`, user, password)
	for _, tc := range []struct {
		name    string
		set     func(t *testing.T, host string)
		options oci.Options
	}{
		{"docker config", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": pair}}})
		}, oci.Options{}},
		{"docker config without padding", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": strings.TrimRight(pair, "=")}}})
		}, oci.Options{}},
		{"docker config by address", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{"https://" + host + "/v1/": object{"username": user, "password": password}}})
		}, oci.Options{}},
		{"docker config for the repository", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": inBase64("other:other")}, host + "/shop": object{"auth": pair}}})
		}, oci.Options{}},
		{"podman's file", func(t *testing.T, host string) {
			t.Setenv("REGISTRY_AUTH_FILE", writeFile(t, asJSON(object{"auths": object{host: object{"auth": pair}}})))
		}, oci.Options{}},
		{"helper of the registry", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"credHelpers": object{host: "test"}, "credsStore": "none"})
			helper(t, "test", said)
		}, oci.Options{}},
		{"helper of all registries", func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "test"})
			helper(t, "test", said)
		}, oci.Options{}},
		{"helper that knows nothing, and the file that does", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"credsStore": "test", "auths": object{host: object{"auth": pair}}})
			helper(t, "test", `echo "credentials not found in native keychain"; exit 1`)
		}, oci.Options{}},
		{"environment", func(t *testing.T, host string) {
			t.Setenv(oci.EnvHost, host)
			t.Setenv(oci.EnvUser, user)
			t.Setenv(oci.EnvPassword, password)
		}, oci.Options{}},
		{"the cloud's", func(*testing.T, string) {}, oci.Options{Credentials: func(context.Context, string) (string, string, bool, error) {
			return user, password, true, nil
		}}},
		{"the cloud's beside a helper that fails", func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "not-installed"})
		}, oci.Options{Credentials: func(context.Context, string) (string, string, bool, error) { return user, password, true, nil }}},
	} {
		for _, flow := range []string{"basic", "bearer"} {
			t.Run(tc.name+"/"+flow, func(t *testing.T) {
				anonymous(t)
				h := newHub(t)
				s := blobs{}
				layers := threeLayers("")
				ref := h.push(t, s, "shop/web", "1", s.image("amd64", layers))
				if flow == "basic" {
					h.answer(wantsBasic)
				} else {
					h.answer(serialised(wantsBearer(h, 2))) // tokens end while layers are read
				}
				tc.set(t, h.host())
				r, _ := door(t, tc.options)
				i, err := r.Open(t.Context(), ref, oci.Choice{})
				if err != nil {
					t.Fatal(err)
				}
				var k taken
				if err := i.Each(t.Context(), 1, nothing, k.take); err != nil || len(k.calls) != 3 {
					t.Errorf("Each() = %v after %d layers", err, len(k.calls))
				}
			})
		}
	}
}

// serialised answers one request at a time.
func serialised(f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	turn := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) bool {
		turn <- struct{}{}
		defer func() { <-turn }()
		return f(w, r)
	}
}

// An identity token, from the file and from a helper, is exchanged for others.
func TestIdentityToken(t *testing.T) {
	for name, set := range map[string]func(t *testing.T, host string){
		"file": func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": inBase64("00000000-0000-0000-0000-000000000000:"), "identitytoken": identity}}})
		},
		"helper": func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "test"})
			helper(t, "test", fmt.Sprintf(`echo '{"Username":"<token>","Secret":"%s"}'`, identity))
		},
	} {
		t.Run(name, func(t *testing.T) {
			anonymous(t)
			h := newHub(t)
			s := blobs{}
			layers := threeLayers("")
			ref := h.push(t, s, "shop/web", "1", s.image("amd64", layers))
			h.answer(serialised(wantsBearer(h, 100)))
			set(t, h.host())
			r, _ := door(t, oci.Options{})
			i, err := r.Open(t.Context(), ref, oci.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, i, layers)
		})
	}
}

// A refusal says as whom the registry was asked and what stood in the way, and
// never a secret.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		set     func(t *testing.T, host string)
		options oci.Options
		kind    fault.Kind
		words   []string
	}{
		{"nobody", func(*testing.T, string) {}, oci.Options{}, fault.Unauthenticated, []string{"401", "asked as nobody", "no credentials were found"}},
		{"wrong password", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": inBase64(user + ":not-" + password)}}})
		}, oci.Options{}, fault.Unauthenticated, []string{"401", "config.json"}},
		{"helper is not installed", func(t *testing.T, _ string) { dockerConfigFile(t, object{"credsStore": "not-installed"}) }, oci.Options{},
			fault.Unauthenticated, []string{"docker-credential-not-installed", "not found"}},
		{"helper fails", func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "test"})
			helper(t, "test", `echo "the key ring is locked"; exit 1`)
		}, oci.Options{}, fault.Unauthenticated, []string{"the key ring is locked"}},
		{"helper says nonsense", func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "test"})
			helper(t, "test", `echo "`+password+`"`)
		}, oci.Options{}, fault.Unauthenticated, []string{"parse answer of docker-credential-test"}},
		{"helper never ends", func(t *testing.T, _ string) {
			dockerConfigFile(t, object{"credsStore": "test"})
			helper(t, "test", "exec cat /dev/zero")
		}, oci.Options{}, fault.Unauthenticated, []string{"run docker-credential-test"}},
		{"helper that is a path", func(t *testing.T, _ string) { dockerConfigFile(t, object{"credsStore": "../../tmp/x"}) }, oci.Options{},
			fault.Unauthenticated, []string{"is a path"}},
		{"malformed file", func(t *testing.T, _ string) {
			dir := t.TempDir()
			must(os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600))
			t.Setenv("DOCKER_CONFIG", dir)
		}, oci.Options{}, fault.Unauthenticated, []string{"parse", "config.json"}},
		{"malformed entry", func(t *testing.T, host string) {
			dockerConfigFile(t, object{"auths": object{host: object{"auth": "%%%"}}})
		}, oci.Options{}, fault.Unauthenticated, []string{"user:password in base64"}},
		{"the cloud refuses", func(*testing.T, string) {}, oci.Options{Credentials: func(context.Context, string) (string, string, bool, error) {
			return "", "", false, errors.New("the task has no role")
		}}, fault.Unauthenticated, []string{"the task has no role"}},
		{"environment in part", func(t *testing.T, _ string) { t.Setenv(oci.EnvUser, user) }, oci.Options{}, fault.Invalid, []string{"set in part"}},
		{"environment for another registry", func(t *testing.T, _ string) {
			t.Setenv(oci.EnvHost, "registry.example")
			t.Setenv(oci.EnvUser, user)
			t.Setenv(oci.EnvPassword, password)
		}, oci.Options{}, fault.Unauthenticated, []string{"asked as nobody"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			anonymous(t)
			h := newHub(t)
			h.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if _, p, _ := r.BasicAuth(); p == password {
					t.Errorf("the password was sent to another registry")
				}
				return wantsBasic(w, r)
			})
			tc.set(t, h.host())
			r, _ := door(t, tc.options)
			_, err := r.Open(t.Context(), h.host()+"/shop/web:1", oci.Choice{})
			checkError(t, err, tc.words...)
			if got := fault.Of(err); got != tc.kind {
				t.Errorf("%q is of kind %v, want %v", err, got, tc.kind)
			}
			if strings.Contains(err.Error()+fault.Remedy(err), password) {
				t.Errorf("error %q shows the password", err)
			}
		})
	}
}

// A server that runs for days asks for a cloud's password again before it ends,
// and not for every image.
func TestPasswordsAreAskedForAgain(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	ref := h.push(t, s, "web", "1", s.image("amd64", nil))
	h.answer(wantsBasic)
	asked := 0
	r, _ := door(t, oci.Options{Credentials: func(context.Context, string) (string, string, bool, error) {
		asked++
		return user, password, true, nil
	}})
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	r.WithClock(func() time.Time { return now })
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Minute, 1}, {8 * time.Minute, 1}, {time.Minute, 2}, {12 * time.Hour, 3}} {
		now = now.Add(step.after)
		if _, err := r.Open(t.Context(), ref, oci.Choice{}); err != nil {
			t.Fatal(err)
		}
		if asked != step.want {
			t.Errorf("at %s asked %d times, want %d", now.Format(time.TimeOnly), asked, step.want)
		}
	}
}

// A public image needs no helper that works.
func TestAnonymousDespiteBrokenHelper(t *testing.T) {
	anonymous(t)
	dockerConfigFile(t, object{"credsStore": "not-installed"})
	h := newHub(t)
	s := blobs{}
	ref := h.push(t, s, "web", "1", s.image("amd64", nil))
	r, _ := door(t, oci.Options{})
	if _, err := r.Open(t.Context(), ref, oci.Choice{}); err != nil {
		t.Error(err)
	}
}

// A helper that waits for ever ends with the scan.
func TestHelperEndsWithTheScan(t *testing.T) {
	anonymous(t)
	dockerConfigFile(t, object{"credsStore": "test"})
	helper(t, "test", "exec tail -f /dev/null")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, _ := door(t, oci.Options{})
	if _, err := r.Open(ctx, "localhost:1/web:1", oci.Choice{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open() = %v, want the context's error", err)
	}
}

// A registry cannot have the password sent to whom it likes, nor blobs read from
// where only we may.
func TestWhereARegistrySends(t *testing.T) {
	anonymous(t)
	other := newHub(t)
	other.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("another host was sent %q", r.Header.Get("Authorization"))
		}
		return false
	})
	h := newHub(t)
	s := blobs{}
	layers := threeLayers("")
	d := s.image("amd64", layers)
	ref := h.push(t, s, "shop/web", "1", d)
	other.push(t, s, "shop/web", "1", d)
	dockerConfigFile(t, object{"auths": object{h.host(): object{"auth": inBase64(user + ":" + password)}}})
	h.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if wantsBasic(w, r) {
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	r, _ := door(t, oci.Options{})
	i, err := r.Open(t.Context(), ref, oci.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, i, layers) // from another host, as registries store blobs
	if other.count("/blobs/") < 4 {
		t.Errorf("the other host was asked %q", other.asked)
	}
}
