// A file of its own, since the page's policy allows no inline script. No validator: it would send the API's address abroad.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
});
