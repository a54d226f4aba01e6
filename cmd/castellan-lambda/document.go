package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

// readDocument makes requests of what a template describes: its tasks and its
// repositories, as the scanner reads them. A template in which there is neither is
// no error and no request.
func readDocument(ctx context.Context, d admission.Document) ([]admission.Request, error) {
	ours, err := isOurs(d.Body)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s is no template that is understood: %w", d.Name, err).With("castellan scan iac says what is wrong with it")
	}
	if !ours {
		return nil, nil
	}
	f := document{name: "template.yaml", body: d.Body}
	if json.Valid(d.Body) {
		f.name = "template.json"
	}
	requests, found, err := scan.Deployments(ctx, f, f.name, scan.DocumentOptions{Now: time.Now().UTC()})
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s is not read: %w", d.Name, err).With("castellan scan iac says more")
	}
	for _, p := range found.Problems {
		if p.Lost || len(requests) == 0 {
			return nil, fault.New(fault.Invalid, "%s is not read whole: %s", d.Name, p.What).With("castellan scan iac says more")
		}
	}
	if len(requests) == 0 {
		return nil, fault.New(fault.Invalid, "%s has tasks, services or repositories, and none was found", d.Name).With("castellan scan iac says more")
	}
	for i := range requests {
		requests[i].Place.File = ""
	}
	return requests, nil
}

// isOurs says whether a template has a resource that is looked at here. JSON is
// YAML, too.
func isOurs(b []byte) (bool, error) {
	const most = 4 << 20 // CloudFormation takes 1 MB
	if len(b) > most {
		return false, fmt.Errorf("it has more than %d bytes", most)
	}
	var t struct {
		Resources map[string]struct {
			Type string               `yaml:"Type"`
			Rest map[string]yaml.Node `yaml:",inline"`
		} `yaml:"Resources"`
		Rest map[string]yaml.Node `yaml:",inline"`
	}
	if err := yaml.Unmarshal(b, &t); err != nil {
		return false, err
	}
	for _, r := range t.Resources {
		if slices.Contains(lambda.ResourceTypes(), r.Type) {
			return true, nil
		}
	}
	return false, nil
}

// document is a file system with one file, in memory.
type document struct {
	name string
	body []byte
}

// Open returns the file.
func (d document) Open(name string) (fs.File, error) {
	if name != d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &opened{Reader: bytes.NewReader(d.body), d: d}, nil
}

type opened struct {
	*bytes.Reader
	d document
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.d, nil }
func (o *opened) Close() error               { return nil }

func (d document) Name() string       { return d.name }
func (d document) Size() int64        { return int64(len(d.body)) }
func (d document) Mode() fs.FileMode  { return 0o444 }
func (d document) ModTime() time.Time { return time.Time{} }
func (d document) IsDir() bool        { return false }
func (d document) Sys() any           { return nil }
