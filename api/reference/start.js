// Shows the OpenAPI document with Swagger UI. validatorUrl is off, because it would ask another site.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
});
