package iac

import (
	"bytes"
	"context"
	"io/fs"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// skipped are folders that hold what others wrote, or what tools made.
func skipped(name string) bool {
	switch name {
	case "node_modules", ".terraform", ".git", ".terragrunt-cache", ".venv", "vendor", ".aws-sam":
		return true
	}
	return false
}

// walk reads all documents of a folder. Symbolic links are not followed.
func (s *scan) walk(ctx context.Context, root string) error {
	files := 0
	return fs.WalkDir(s.files, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			s.problem(name, err)
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && skipped(d.Name()) || strings.Count(name, "/") > MaxDepth {
				return fs.SkipDir
			}
			return nil
		}
		if files++; files > MaxFiles {
			return fault.New(fault.Exhausted, "more than %d files", MaxFiles).With("name the folders that hold templates")
		}
		if d.Type().IsRegular() {
			s.file(name)
		}
		return nil
	})
}

// file reads a file of a folder, if its name is one of a document.
func (s *scan) file(name string) {
	switch ext := strings.ToLower(path.Ext(name)); {
	case isTerraform(name):
		s.terraform.Add(name)
	case isDockerfile(name):
		s.dockerfile(name)
	case ext == ".json", ext == ".template":
		if b, ok := s.readMarked(name); ok {
			s.document(name, b, ext == ".json" || jsonLike(b))
		}
	case ext == ".yaml", ext == ".yml":
		if b, ok := s.readMarked(name); ok {
			s.document(name, b, false)
		}
	}
}

// readMarked reads a file that may matter.
func (s *scan) readMarked(name string) ([]byte, bool) {
	b, err := s.read(name)
	if err != nil {
		s.problem(name, err)
		return nil, false
	}
	return b, mayMatter(b)
}

// isTerraform says whether Terraform, or OpenTofu, reads a file by itself.
func isTerraform(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".tf") || strings.HasSuffix(base, ".tofu") || strings.HasSuffix(base, ".tofu.json") || strings.HasSuffix(base, ".tf.json") || base == "terraform.tfvars" || strings.HasSuffix(base, ".auto.tfvars")
}

// isDockerfile says by its name whether a file is one.
func isDockerfile(name string) bool {
	base := strings.ToLower(path.Base(name))
	if ext := path.Ext(base); ext == ".md" || ext == ".go" || ext == ".dockerignore" || ext == ".sh" || ext == ".py" || ext == ".js" || ext == ".ts" || ext == ".tmpl" || ext == ".j2" || ext == ".yaml" || ext == ".yml" || ext == ".json" || ext == ".txt" || ext == ".html" {
		return false
	}
	for _, word := range []string{"dockerfile", "containerfile"} {
		if base == word || strings.HasPrefix(base, word+".") || strings.HasPrefix(base, word+"-") || strings.HasSuffix(base, "."+word) {
			return true
		}
	}
	return false
}

// hasFrom says whether a line begins with FROM.
func hasFrom(b []byte) bool {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimLeft(line, " \t"); len(line) > 4 && bytes.EqualFold(line[:4], []byte("FROM")) && (line[4] == ' ' || line[4] == '\t') {
			return true
		}
	}
	return false
}

// looksLikeDockerfile says by its first instruction whether a file is one.
func looksLikeDockerfile(b []byte) bool {
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		return hasFrom(line) || len(line) > 4 && bytes.EqualFold(line[:4], []byte("ARG "))
	}
	return false
}
