package awsiottest

// The operations about thing types.

type thingTypeJSON struct {
	ThingTypeName       string         `json:"thingTypeName"`
	ThingTypeARN        string         `json:"thingTypeArn"`
	ThingTypeID         string         `json:"thingTypeId,omitempty"`
	ThingTypeProperties map[string]any `json:"thingTypeProperties"`
	ThingTypeMetadata   map[string]any `json:"thingTypeMetadata"`
}

func typeToJSON(t thingType) thingTypeJSON {
	metadata := map[string]any{"deprecated": t.deprecated(), "creationDate": seconds(t.created)}
	if t.deprecated() {
		metadata["deprecationDate"] = seconds(t.deprecatedAt)
	}
	return thingTypeJSON{
		ThingTypeName: t.name, ThingTypeARN: t.arn,
		ThingTypeProperties: map[string]any{"thingTypeDescription": t.description, "searchableAttributes": append([]string{}, t.searchable...)},
		ThingTypeMetadata:   metadata,
	}
}

func listThingTypes(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	types, next := r.listTypes(c.query.Get("thingTypeName"), after, limit)
	out := []thingTypeJSON{}
	for _, t := range types {
		out = append(out, typeToJSON(t))
	}
	return map[string]any{"thingTypes": out, "nextToken": token(next)}, nil
}

func describeThingType(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("thingTypeName"); err != nil {
		return nil, err
	}
	t, err := r.describeType(c.name)
	if err != nil {
		return nil, err
	}
	out := typeToJSON(t)
	out.ThingTypeID = t.id
	return out, nil
}

func createThingType(r *registry, c *call) (any, *apiError) {
	var in struct {
		ThingTypeProperties struct {
			Description string   `json:"thingTypeDescription"`
			Searchable  []string `json:"searchableAttributes"`
		} `json:"thingTypeProperties"`
		Tags []tag `json:"tags"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.name("thingTypeName", c.name)
	check.description("thingTypeProperties.thingTypeDescription", in.ThingTypeProperties.Description)
	check.tags(in.Tags)
	if err := check.err(); err != nil {
		return nil, err
	}
	if len(in.ThingTypeProperties.Searchable) > 3 {
		return nil, invalidRequest("a thing type has at most 3 searchable attributes")
	}
	t, err := r.createType(c.name, in.ThingTypeProperties.Description, in.ThingTypeProperties.Searchable)
	if err != nil {
		return nil, err
	}
	if err := r.tag(t.arn, in.Tags); err != nil {
		return nil, err
	}
	return map[string]string{"thingTypeName": t.name, "thingTypeArn": t.arn, "thingTypeId": t.id}, nil
}

func deprecateThingType(r *registry, c *call) (any, *apiError) {
	var in struct {
		Undo bool `json:"undoDeprecate"`
	}
	if err := c.checkName("thingTypeName"); err != nil {
		return nil, err
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	return struct{}{}, r.deprecateType(c.name, in.Undo)
}

func deleteThingType(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("thingTypeName"); err != nil {
		return nil, err
	}
	return struct{}{}, r.deleteType(c.name)
}
