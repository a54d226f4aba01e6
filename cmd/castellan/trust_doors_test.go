package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	kmsID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	kmsARN = "arn:aws:kms:eu-central-1:111122223333:key/" + kmsID
)

// startKMS starts a KMS with one key, which alias/build means too, and has the SDK
// ask it and nobody else: kms.
func startKMS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: kms")
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			KeyID   string `json:"KeyId"`
			Message []byte
		}
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		answer := func(status int, out map[string]any) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(out)
		}
		switch err := json.NewDecoder(r.Body).Decode(&in); {
		case err != nil || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/kms/"):
			answer(http.StatusBadRequest, map[string]any{"__type": "ValidationException", "message": "not asked as KMS is"})
		case in.KeyID != kmsARN && in.KeyID != kmsID && in.KeyID != "alias/build":
			answer(http.StatusBadRequest, map[string]any{"__type": "NotFoundException", "message": "no such key"})
		case operation == "GetPublicKey":
			answer(http.StatusOK, map[string]any{"KeyId": kmsARN, "PublicKey": must(x509.MarshalPKIXPublicKey(key.Public())), "KeyUsage": "SIGN_VERIFY",
				"KeySpec": "ECC_NIST_P256", "SigningAlgorithms": []string{"ECDSA_SHA_256"}})
		case operation == "Sign":
			answer(http.StatusOK, map[string]any{"KeyId": kmsARN, "Signature": must(key.Sign(rand.Reader, in.Message, crypto.SHA256)), "SigningAlgorithm": "ECDSA_SHA_256"})
		default:
			answer(http.StatusBadRequest, map[string]any{"__type": "UnknownOperationException"})
		}
	}))
	ts.Defer(s.Close)
	for name, v := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-key",
		"AWS_REGION": "eu-central-1", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		ts.Setenv(name, v)
	}
}

// startEngine starts a container engine that has images: engine VARIABLE
// NAME[=DIGEST]… puts its address into a variable. One without digest was built there.
func startEngine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: engine VARIABLE NAME[=DIGEST]…")
	}
	var images []map[string]any
	for i, a := range args[1:] {
		name, digest, pulled := strings.Cut(a, "=")
		image := map[string]any{"Id": "sha256:" + strings.Repeat(string(rune('a'+i)), 64), "RepoTags": []string{name}, "RepoDigests": []string{}}
		if pulled {
			repository := name[:strings.LastIndexByte(name, ':')]
			image["RepoDigests"] = []string{repository + "@" + digest}
		}
		images = append(images, image)
	}
	version := regexp.MustCompile(`^/v[0-9.]+`)
	// Not in the script's folder: a socket's path is short.
	dir := must(os.MkdirTemp("", "engine"))
	ts.Defer(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Content-Type", "application/json")
		switch version.ReplaceAllString(r.URL.Path, "") {
		case "/_ping":
		case "/version":
			_ = json.NewEncoder(w).Encode(map[string]any{"Version": "27.5.1", "ApiVersion": "1.47", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})
		case "/images/json":
			_ = json.NewEncoder(w).Encode(images)
		default:
			http.Error(w, `{"message": "not here"}`, http.StatusNotFound)
		}
	}))
	_ = s.Listener.Close()
	s.Listener = must(net.Listen("unix", socket))
	s.Start()
	ts.Defer(s.Close)
	ts.Setenv(args[0], "unix://"+socket)
}
