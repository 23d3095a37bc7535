package awsiottest

import (
	"strconv"
	"unicode/utf8"
)

// Tags of thing types, groups, billing groups and policies. Sources: the
// service model for keys and values; AWS General Reference, "Tagging", for
// 50 of a resource. Which error the 51st gives is inferred.

const (
	tagsMax      = 50
	tagKeySize   = 128
	tagValueSize = 256
)

type tag struct {
	Key   string
	Value string
}

type tagCall struct {
	ResourceARN string   `json:"resourceArn"`
	Tags        []tag    `json:"tags"`
	TagKeys     []string `json:"tagKeys"`
}

func (c *checker) tags(tags []tag) {
	for _, t := range tags {
		if n := utf8.RuneCountInString(t.Key); n < 1 || n > tagKeySize {
			c.fail(t.Key, "tags.member.key", "Member must have length between 1 and "+strconv.Itoa(tagKeySize))
		}
		if !tagPattern.MatchString(t.Key) {
			c.fail(t.Key, "tags.member.key", `Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`)
		}
		if utf8.RuneCountInString(t.Value) > tagValueSize || !tagPattern.MatchString(t.Value) {
			c.fail(t.Value, "tags.member.value", "Member must have length less than or equal to "+strconv.Itoa(tagValueSize))
		}
	}
}

// tag adds tags to a resource.
func (r *registry) tag(arn string, tags []tag) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]string{}
	for key, value := range r.tags[arn] {
		all[key] = value
	}
	for _, t := range tags {
		all[t.Key] = t.Value
	}
	if len(all) > tagsMax {
		return limitExceeded("A resource has at most %d tags", tagsMax)
	}
	r.tags[arn] = all
	return nil
}

// taggable reports whether an ARN names a resource that exists.
func (r *registry) taggable(arn string) *apiError {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.tags[arn]; !ok {
		return notFound("Resource %s cannot be found.", arn)
	}
	return nil
}

func listTags(r *registry, c *call) (any, *apiError) {
	arn := c.query.Get("resourceArn")
	if err := r.taggable(arn); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := []tag{}
	for _, key := range sortedKeys(r.tags[arn]) {
		out = append(out, tag{key, r.tags[arn][key]})
	}
	return map[string]any{"tags": out, "nextToken": nil}, nil
}

func tagResource(r *registry, c *call) (any, *apiError) {
	var in tagCall
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.tags(in.Tags)
	if err := check.err(); err != nil {
		return nil, err
	}
	if err := r.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	return struct{}{}, r.tag(in.ResourceARN, in.Tags)
}

func untagResource(r *registry, c *call) (any, *apiError) {
	var in tagCall
	if err := c.read(&in); err != nil {
		return nil, err
	}
	if err := r.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range in.TagKeys {
		delete(r.tags[in.ResourceARN], key)
	}
	return struct{}{}, nil
}
